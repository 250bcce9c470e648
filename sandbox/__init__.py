"""Local stand-ins for the services outside, with their real wire formats; nothing in production imports them."""
