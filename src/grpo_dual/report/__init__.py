"""What people look at: one self-contained page of a run or several, and its figures as PNG."""
