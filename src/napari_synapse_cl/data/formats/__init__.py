"""The formats of volumes: each is opened lazily, and read region by region."""
