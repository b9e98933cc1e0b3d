"""The verbs of the command, one file each: options and help. What they do is one folder up."""
