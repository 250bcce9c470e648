"""What the field knows: sessions, bars, splits and the plan of calls. Pure; imports nothing of ours."""
