"""What weights are: their names, their numbers, and the files of safetensors that they are in."""
