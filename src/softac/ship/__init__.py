"""Out of softac and into it: policies of other libraries, the hub, trackers."""
