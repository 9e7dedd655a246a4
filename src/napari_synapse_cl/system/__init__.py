"""The machine that a job runs on: files, downloads, memory, devices and other processes."""
