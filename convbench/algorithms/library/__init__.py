"""What others have built, measured like ours: the baseline that ours is held against."""
