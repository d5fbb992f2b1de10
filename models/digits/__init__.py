"""The ``digits`` recipe: read handwritten digits from 8x8 scans (UCI optdigits, as shipped by scikit-learn)."""
