"""The data sets, each as a split in memory or as a source of encoded images."""
