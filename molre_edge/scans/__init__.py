"""From files to the model's grid: read a head CT (DICOM, NIfTI), check it, resample it; or make a synthetic one."""
