"""What a run leaves behind: folders that appear whole, stages that resume, records, the long table."""
