"""Labels that methods make for themselves from the features of a whole data set: whitening, k-means, Sinkhorn-Knopp, on all devices."""
