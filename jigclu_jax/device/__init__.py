"""Mesh, shardings and the way of a host batch into global device arrays."""
