"""The DICOM node: studies in, reports out. It is a user of the library; :mod:`molre_edge.node.run` has its verb."""
