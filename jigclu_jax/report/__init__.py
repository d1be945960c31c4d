"""What a person looks at: pictures of montages, curves and the HTML page. Numpy, Pillow and matplotlib alone."""
