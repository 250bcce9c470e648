"""The parts of the weekly report: notices, number formats, charts, templates, the mail and its delivery."""
