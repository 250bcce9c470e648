"""Everything a report is made of: sentences, figures, charts, the email and its delivery."""
