"""Out of softac and into it: policies as files that act without it, of other libraries, the hub, trackers."""
