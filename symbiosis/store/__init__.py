"""What a run leaves behind (README.md says what a killed process can leave).

folders: files and folders that appear complete or not at all, checksums, locks
stages:  the parts of a run, which of them are made again, and who may write in a run's folder
record:  the frame every run goes through, and what is written down of how it was made
results: the long table reports/results.csv, and records.csv beside it
worlds:  whether runs may stand in one table
"""
