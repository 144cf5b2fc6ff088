"""High-Throughput JPEG 2000 is read to the value: streams of OpenJPH 0.31, since no encoder is among the requirements.

Each shows ``(7 * row * col + 5 * row - 3 * col) % 900`` in 20 rows and 24 columns, in two resolution levels.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from molre_edge.errors import ScanError
from molre_edge.scans.dicom_slices import read_slices
from molre_edge.scans.find import find_scans
from molre_edge.scans.series import examine

RPCL_12_BITS = base64.b85decode(
    "|4;u>04YEK0000O0000K00000000000000O0000K0000000000009dD0sl|{2mk^A000L6QUDA90ssL30t5s=0smY83Lt23aByg7X#ZpY7XS"
    "fIaAj^vP)HzFWpW@eE;BJMFfRX9015zL000000m1)}015yA0005O00IA#zyj_7JAMQqYynbv@?gF>n?b#2_Fn&R7x+ofaaK-e%71Q(e@<D}H"
    "|(jE+tg701MlvAV@3ucKsLMpzyWlS09{M~7f`@&z?5u^giZ?--}y$h;HN0uVci(W0I?zLX)03j1A&24egMD44-6o1kib|EyCm)+OzON392c!"
    ";3w|fSQkV-{I6;G>kTnp1dOZNa23IE=+ER=c^5Em=LRM%OegN74XH>*a{RsU2ctr(AAUFX5SAGD%0`%wrUc~?lzM|d~!F?sV2MSK8Z{I?>`S"
    "u1<guGBg1$X1-%{SCwQEx!;LO;|S0B<A$fBNkP@CJ2${Bt4|F%+!4NMBX>AgPJ5!SO^OGnUCn19}19%pW{>@ZiCN2M-=R*bRwe1SeEbZh}j6"
    "Grt>eNc=(-75t6c8w{xC59Q_!LV$qd0uB$QH?V*+i;9lmn@>>xd=A(V(9i-U@Y`~~1QuII1;r@<mRN)av>^el2taBu0>Quy7F=+mfCC>492`"
    "tkaKH&3oG9Re1qY|7!8!QB4ETMF0&7V4K^VdpY-2q5!A3A2rdV$&2m`Xl2Ymtm*#"
)
"""Reversible, in the order that .202 requires, samples of 12 bits without sign."""
LRCP_16_BITS_SIGNED = base64.b85decode(
    "|4;u>04YEK0000O0000K00000000000000O0000K000000000000EBy0sl|{2mk^A000XAQUDA9000310t5s=0smY83LuD(kdTOoi2q~&7XS"
    "fIaAj^vP)HzFWpW@eE;BJMFfRX9015zL000000lWW@015yA0005I00IA#zyL0|lRgnPhW`)wF*BJf^MUVO{K&+F^nn?WdJUi0Ftq|gECc|xo"
    "jp}Z!URBOya2!e7fApBT}%K0bpXI`z?5u^giZ?--}y$h;HN0uVci(W0I?zLX)03j1A&24egMD44-6o1kib|EyCm)+OzON392c!;3w|fSQkV-"
    "{I6;G>kTnp1dOZNa23IE=+ER=c^5Em=LRM%OegN74XH>*a{RsU2ctr(AAUFX5SAGD%0548}0A9ra0K4F#-W0)oCAtR+PN;9+Lb>_&22zB)P("
    "uZG<L1pb)L>C>K=DF9)EfYABm#f>?FR4$b$<MFA{8+dth`8HRrnyOiLt@)L?APk$w&iw0pH9YJb3Wn!Gi}69z56$iDLvOR8Ve$OLQ~88*fPb"
    "LKPMKjoTXxsOAsl<_$uCfa3xV52ZJ-fHRAVj^LY5Q2%@m*b&gs0wwU<a=!!?TSo=ODFBvOga))B0j&r?YA^!9zzr5$aH4<%9}FBEOjK~d2_B"
    "p%;DQAQr>Ma>_`wYLeT)KYNcce*!WV2~Jov#zFdwE^Zz%`^vc?B}0sq+"
)
"""Reversible, samples of 16 bits with sign; 300 is subtracted from the picture."""
IRREVERSIBLE = base64.b85decode(
    "|4;u>04YEK0000O0000K00000000000000O0000K0000000000009dD0sl|{2mk^A001EWQUDA90ssL30t5s=0RLP75h6kGLPA19LY6upIv_"
    "dN|6~9c00B>MWo}APNFY{aav(4+GchhOF8@^k3IJdL00000*8h+I3IG5A007ni0soW0T|l?x)?q8RimgVi%<wn%)Hx(#n@{S}I~i@3J_GOWe"
    "SWgy1^@sty#T;gz*;aCfHbt6#X)5~j^^x#c>rr7MBunOY(2#-oFg&nRyY9Dz92=n`2ip1rCF9=Cwc(Dw;)|i3vh(iQqq_Rpp)`_jCbcloF1F"
    "E&*@seml52Da{()C7=~dOhG7;L2ZB+Q5eN|c4a2&}sbTqXwd-~C_?EE1X7%e`*mnUD3CIX6l*n%QeT)fhBjp-ZxsS_IYHuw&EMo!x*#"
)
"""As the first, with the irreversible wavelet: up to 106 off."""
ROW, COL = np.mgrid[:20, :24]
PICTURE = (7 * ROW * COL + 5 * ROW - 3 * COL) % 900
HTJ2K, HTJ2K_RPCL, HTJ2K_ANY = (f"1.2.840.10008.1.2.4.{end}" for end in (201, 202, 203))


def write(write_series: Any, folder: Path, syntax: str, stream: bytes, signed: bool) -> Path:
    def edit(dataset: Dataset, _: int) -> None:
        dataset.BitsStored, dataset.HighBit = (16, 15) if signed else (12, 11)
        dataset.PixelRepresentation = int(signed)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"

    positions = [(0.0, 0.0, 20.0 * number) for number in range(4)]
    write_series(folder, positions, shape=(20, 24), thickness=20.0, edit=edit)
    return folder


@pytest.mark.parametrize("syntax", [HTJ2K, HTJ2K_RPCL, HTJ2K_ANY])
@pytest.mark.parametrize(("stream", "signed"), [(RPCL_12_BITS, False), (LRCP_16_BITS_SIGNED, True)])
def test_every_value_is_kept(tmp_path: Path, write_series: Any, syntax: str, stream: bytes, signed: bool) -> None:
    (source,) = find_scans(write(write_series, tmp_path / "a", syntax, stream, signed)).scans
    slices = read_slices(source)
    assert slices.check() == 0.0
    for header in slices.headers:
        np.testing.assert_array_equal(slices.get(header.frames[0]), PICTURE - (300 if signed else 0))


def test_the_irreversible_wavelet_is_refused(tmp_path: Path, write_series: Any) -> None:
    (source,) = find_scans(write(write_series, tmp_path / "a", HTJ2K_ANY, IRREVERSIBLE, False)).scans
    with pytest.raises(ScanError) as caught:
        read_slices(source).check()
    assert caught.value.code == "lossy"


@pytest.mark.parametrize("left", [1, 3, 120, 400])
def test_a_stream_that_ends_too_early_is_refused(tmp_path: Path, write_series: Any, left: int) -> None:
    stream = RPCL_12_BITS[:-left]
    folder = write(write_series, tmp_path / "a", HTJ2K_RPCL, stream + b"\0" * (len(stream) % 2), False)
    assert examine(next(folder.iterdir())).problem is None
    with pytest.raises(ScanError) as caught:
        read_slices(find_scans(folder).scans[0]).check()
    assert caught.value.code == "corrupt_pixels"
