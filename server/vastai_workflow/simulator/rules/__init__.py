"""What each fault does, one small rule each."""
