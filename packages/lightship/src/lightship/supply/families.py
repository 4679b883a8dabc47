"""Families of licences: what they ask of who passes the software on, told from an SPDX expression.

    permissive       keep the notices
    weak copyleft    publish changes of the part itself (libraries, files)
    strong copyleft  publish what is built with it, under the same terms
    unknown          nobody can tell from the name

The identifiers are those of the SPDX licence list. The grouping is a first orientation, not legal advice.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Family(StrEnum):
    """What a licence asks, in one word or two."""

    PERMISSIVE = "permissive"
    WEAK = "weak copyleft"
    STRONG = "strong copyleft"
    UNKNOWN = "unknown"


# Of several licences that hold together the last in this order counts: what is not known may ask for much.
_BY_WEIGHT = (Family.PERMISSIVE, Family.WEAK, Family.UNKNOWN, Family.STRONG)

_STRONG = re.compile(
    r"(AGPL|GPL|SSPL|OSL|NPOSL|EUPL|QPL|Sleepycat|CECILL-[12]\.[0-9]|RPL|CC-BY-SA|CPAL|D-FSL|copyleft-next|Parity"
    r"|CERN-OHL-S|SMAIL-GPL)(-.*)?",
    re.IGNORECASE,
)
_WEAK = re.compile(
    r"(LGPL|LGPLLR|MPL|EPL|CDDL|CPL|IPL|MS-RL|CECILL-C|GFDL|Artistic|ClArtistic|APSL|LPPL|NPL|SISSL|SPL|ErlPL|RPSL"
    r"|CUA-OPL|OSET-PL|CERN-OHL-W|Nokia)(-.*)?",
    re.IGNORECASE,
)
_PERMISSIVE = re.compile(
    r"(0BSD|AFL-.*|Apache-.*|Beerware|Bitstream-Vera|BlueOak-.*|Boehm-GC|BSD-.*|BSL-1\.0|bzip2-.*|CC0-1\.0|CC-PDDC"
    r"|CC-BY-[0-9.]+|CDLA-Permissive-.*|CECILL-B|CNRI-.*|curl|dtoa|ECL-2\.0|EFL-.*|FSFAP.*|FSFUL.*|FTL|HDF5|HPND.*|ICU"
    r"|IJG|ImageMagick|Info-ZIP|Intel|ISC|JSON|Libpng|libpng-.*|libtiff|LZMA-SDK-.*|Minpack|MirOS|MIT|MIT-.*|mpich2"
    r"|MS-PL|MulanPSL-.*|NAIST-2003|NCSA|NIST-.*|NTP|OFL-.*|OLDAP-2\.8|OpenSSL|PDDL-1\.0|PHP-.*|PostgreSQL|PSF-.*"
    r"|Python-.*|Qhull|SAX-PD|SGI-B-2\.0|SMLNJ|blessing|SunPro|TCL|UCAR|Unicode-.*|Unlicense|UPL-1\.0|Vim|W3C.*|WTFPL"
    r"|X11.*|Xnet|Zlib|zlib-acknowledgement|ZPL-.*|LicenseRef-.*public-domain)",
    re.IGNORECASE,
)
# With these a program may link to the part without coming under its terms.
_LINKING_EXCEPTIONS = re.compile(
    r"(GCC|Autoconf|Bison|Classpath|Libtool|LLVM|Linux-syscall|OpenJDK-assembly|PyInstaller|Bootloader|eCos|Font|u-boot"
    r"|WxWindows|GNU-compiler|openvpn-openssl|x11vnc-openssl|Linux-syscall-note).*",
    re.IGNORECASE,
)
DEEPEST = 20  # parentheses in an expression; real ones have two or three
LONGEST = 4000  # characters of an expression; numpy's has 60


def family_of(expression: str) -> Family:
    """The family of an SPDX expression.

    Of alternatives (OR) the lightest counts, because the user may choose; of what holds together (AND) the heaviest.

    >>> str(family_of("Apache-2.0 OR GPL-2.0-only")), str(family_of("MIT AND LGPL-2.1-or-later"))
    ('permissive', 'weak copyleft')
    """
    if len(expression) > LONGEST or expression.count("(") > DEEPEST:
        return Family.UNKNOWN
    tokens = expression.replace("(", " ( ").replace(")", " ) ").split()
    try:
        weight = _alternatives(tokens)
    except IndexError:
        return Family.UNKNOWN
    return _BY_WEIGHT[weight] if not tokens else Family.UNKNOWN


def heaviest(families: list[Family]) -> Family:
    """The family of what is under several licences at once; unknown where there are none."""
    return max(families, key=_BY_WEIGHT.index, default=Family.UNKNOWN)


def _alternatives(tokens: list[str]) -> int:
    """One or more terms joined by OR; takes what it reads from the front."""
    weight = _together(tokens)
    while tokens and tokens[0].upper() == "OR":
        del tokens[0]
        weight = min(weight, _together(tokens))
    return weight


def _together(tokens: list[str]) -> int:
    weight = _term(tokens)
    while tokens and tokens[0].upper() == "AND":
        del tokens[0]
        weight = max(weight, _term(tokens))
    return weight


def _term(tokens: list[str]) -> int:
    name = tokens.pop(0)
    if name == "(":
        weight = _alternatives(tokens)
        if tokens.pop(0) != ")":
            raise IndexError
        return weight
    family = _family_of_name(name)
    if tokens and tokens[0].upper() == "WITH":
        exception = tokens[1]
        del tokens[:2]
        if family is Family.STRONG and _LINKING_EXCEPTIONS.fullmatch(exception):
            family = Family.WEAK
    return _BY_WEIGHT.index(family)


def _family_of_name(name: str) -> Family:
    if _PERMISSIVE.fullmatch(name):
        return Family.PERMISSIVE
    if _WEAK.fullmatch(name):
        return Family.WEAK
    return Family.STRONG if _STRONG.fullmatch(name) else Family.UNKNOWN
