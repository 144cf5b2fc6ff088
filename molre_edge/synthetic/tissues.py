"""CT numbers of the tissues, in Hounsfield units.

Sources, by letter:

A  Kamalian, Lev, Gupta: Computed tomography imaging and angiography - principles.
   Handbook of Clinical Neurology 135 (2016).
B  Radiopaedia.org, articles "Hounsfield unit" and "Evolution of CT density of intracranial haemorrhage".
C  Lee et al.: The computed tomographic attenuation and the age of subdural hematomas.
   J Korean Med Sci 12:353 (1997).
D  The Neurosurgical Atlas, quick reference table "Neuroradiology".

Where a source gives a range, a value within it was chosen by eye so that windows look right.
"""

from __future__ import annotations

AIR = -1000.0  # by definition
FAT = -90.0  # B: -50 to -100; D: -60 to -120
WATER = 0.0  # by definition
CSF = 6.0  # B: 0 to 15; D: 5
WHITE_MATTER = 28.0  # B: 20 to 30
GREY_MATTER = 36.5  # B: 37 to 45; D: 30 to 40
DEEP_GREY = 36.0
MUSCLE = 55.0  # B: 35 to 55
SKIN = 35.0
DURA = 50.0
FLOWING_BLOOD = 43.0  # B: unclotted blood 35 to 45
VENOUS_BLOOD = 48.0
CLOTTED_BLOOD = 68.0  # B: 50 to 75 in the first days; D: 75 to 80
CHRONIC_BLOOD = 20.0  # C: hypodense to isodense after three weeks
CONTUSED_BRAIN = 17.0
OEDEMA = 16.0  # D: 10 to 14 for pronounced oedema
SCAR = 9.0  # encephalomalacia is close to CSF
TUMOUR = 34.0
MENINGIOMA = 52.0
COLLOID = 58.0
MUCOSA = 25.0  # fluid and thickened mucosa
CALCIUM = 220.0  # A: above 100; a partial volume lowers thin calcifications
CORTICAL_BONE = 1350.0  # A: dense bone 1000 and more; D: compact bone 1000
DIPLOE = 620.0  # B: cancellous bone 300 to 700
OTIC_BONE = 1800.0
VITREOUS = 9.0
LENS = 75.0
SILICONE = 320.0  # barium-filled catheter
METAL = 3000.0  # above the scale of 12-bit CT, cut off at 3071
