"""Training: recipes as data, pictures as patches, and a loop that validates, averages and resumes."""
