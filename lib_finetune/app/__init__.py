"""What a person can ask for, as small typed services: the tab and the API call nothing else."""
