"""What many runs say together: statistics, tables, studies, claims, figures."""
