"""Training: recipes as data, images as patches, and a loop that validates, averages and resumes."""
