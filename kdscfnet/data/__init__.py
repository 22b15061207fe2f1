"""Images and masks: finding data sets, reading and augmenting samples, and a generated demo set."""
