"""Published archives of data sets, which `kdjax.data.prepare` reads."""
