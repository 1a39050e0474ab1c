"""The measurements, one file each; ``python -m bench`` runs them."""
