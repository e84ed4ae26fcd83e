"""Files that tests read: images, data sets and artifacts, sound and broken."""
