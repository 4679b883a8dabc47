"""Which of a model's many GGUF files comes: names as repositories have them."""

from __future__ import annotations

import pytest

from lightship.errors import ProjectError
from lightship.hub.choice import choose
from lightship.hub.file import HubFile
from lightship.hub.gguf_choice import Bits, choose_form, forms
from lightship.hub.reference import HubReference

GIGA = 10**9
SIZES = {  # of a model of 7 billion parameters
    "F32": 28.0, "BF16": 15.2, "F16": 15.2, "Q8_0": 8.1, "Q6_K": 6.2, "Q5_K_M": 5.4, "Q5_K_S": 5.3, "Q4_K_M": 4.7,
    "Q4_K_S": 4.5, "IQ4_XS": 4.2, "Q4_0": 4.4, "Q3_K_L": 4.1, "Q3_K_M": 3.8, "IQ3_M": 3.6, "Q2_K": 3.0,
    "IQ2_XXS": 2.2,
}  # fmt: skip


def file(path: str, size: float = 1.0) -> HubFile:
    return HubFile(path, int(size * GIGA), "0" * 64)


def repository(*names: str, pattern: str = "Model-7B.{}.gguf") -> list[HubFile]:
    return [file(pattern.format(name), SIZES[name]) for name in names or SIZES]


def chosen(files: list[HubFile], bits: Bits | None = None, memory: float | None = None) -> str:
    return choose_form(forms(files), bits, int(memory * GIGA) if memory else None)[0].name


@pytest.mark.parametrize(
    ("bits", "memory", "name"),
    [
        (None, None, "Q4_K_M"),
        ("4bit", None, "Q4_K_M"),
        ("8bit", None, "Q8_0"),
        ("none", None, "BF16"),
        (None, 6.0, "Q4_K_M"),
        (None, 5.5, "IQ4_XS"),
        (None, 5.0, "Q3_K_M"),
        (None, 3.0, "IQ2_XXS"),
        ("8bit", 8.0, "Q6_K"),
    ],
)
def test_bits_and_memory_choose(bits: Bits | None, memory: float | None, name: str) -> None:
    assert chosen(repository(), bits, memory) == name


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (("Q8_0", "Q5_K_S", "Q3_K_L"), "Q5_K_S"),  # more bits rather than fewer
        (("Q3_K_L", "Q2_K"), "Q3_K_L"),
        (("F16", "Q2_K"), "F16"),
        (("F16", "F32"), "F16"),
        (("Q4_0", "Q4_K_S"), "Q4_K_S"),
    ],
)
def test_where_the_usual_one_is_missing_the_nearest_is_taken(names: tuple[str, ...], name: str) -> None:
    assert chosen(repository(*names)) == name


def test_nothing_that_fits_is_told_with_the_smallest() -> None:
    with pytest.raises(ProjectError, match=r"the smallest is IQ2_XXS \(2\.20 GB\)"):
        chosen(repository(), memory=2.0)


@pytest.mark.parametrize(
    ("path", "name", "bits"),
    [
        ("smollm2-135m-instruct-q4_k_m.gguf", "Q4_K_M", 4),
        ("Model.Q8_0.gguf", "Q8_0", 8),
        ("Model-UD-Q4_K_XL.gguf", "Q4_K_XL", 4),
        ("Model-IQ2_XXS.gguf", "IQ2_XXS", 2),
        ("Model-Q4_0_4_4.gguf", "Q4_0_4_4", 4),
        ("Model-TQ1_0.gguf", "TQ1_0", 1),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4", 4),
        ("Model-bf16.gguf", "BF16", 16),
        ("Q6_K/model.gguf", "Q6_K", 6),
        ("Q2-Chat-7B.Q5_0.gguf", "Q5_0", 5),
        ("model.gguf", "model.gguf", 16),
    ],
)
def test_bits_are_read_from_names(path: str, name: str, bits: int) -> None:
    (form,) = forms([file(path)])
    assert (form.name, form.bits) == (name, bits)


def test_parts_are_one_form_and_come_together() -> None:
    parts = [file(f"big/Model-Q4_K_M-0000{number}-of-00003.gguf", 2.0) for number in (3, 1, 2)]
    broken = file("Model-Q8_0-00001-of-00002.gguf")
    files = [*parts, broken, file("mmproj-model-F16.gguf"), file("imatrix.gguf"), file("README.md")]
    (form,) = forms(files)
    assert (form.name, form.size) == ("Q4_K_M", 6 * GIGA)
    whole = choose(files, HubReference("org/name"), trust=False)
    assert [each.path for each in whole.files] == sorted(each.path for each in parts)
    assert whole.root == "big" and not whole.reason
    # Whichever part is named.
    for part in parts:
        assert choose(files, HubReference("org/name", file=part.path), trust=False).files == whole.files
    with pytest.raises(ProjectError, match="one of 2 parts, of which the repository has 1"):
        choose(files, HubReference("org/name", file=broken.path), trust=False)


def test_safetensors_come_before_gguf_files() -> None:
    files = [file("config.json", 0), file("model.safetensors"), *repository("Q4_K_M")]
    assert {each.path for each in choose(files, HubReference("org/name"), trust=False).files} == {
        "config.json",
        "model.safetensors",
    }
