"""How to talk to a database: connections, locks, tables and bulk loads. Knows no job."""
