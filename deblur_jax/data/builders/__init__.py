"""TensorFlow Datasets builders, one file a data set."""
