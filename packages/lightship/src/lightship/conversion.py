"""The model of a plan as ONNX: converted in the environment that the lock has for it, before the image is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import msgspec

from lightship.bases.base import Base
from lightship.cache import file_digest
from lightship.errors import ProjectError
from lightship.layers import Compression
from lightship.lock import fetch_wheels
from lightship.locking import Locked, bring_up_to_date, source_builder
from lightship.oci import Platform
from lightship.optimize import Converted, LanguageTask, Task, convert, convert_language_model
from lightship.plan import FIRST_TEXT, Conversion, Plan, Quantization, human_size
from lightship.project.context import ContextFile
from lightship.session import Session
from lightship_runtime.config import ModelFile


def convert_model(
    plan: Plan, platforms: Sequence[Platform], session: Session, *, locked: bool, upgrade: bool
) -> tuple[Plan, tuple[str, ...]]:
    """The plan with the converted model among its weights, and what changed in the lock.

    Raises: `ProjectError` where no platform is this machine's, `ConversionError`, and what locking raises.
    """
    here = Platform.of_this_machine()
    conversion = plan.optimize.value
    assert conversion is not None
    if here not in platforms:
        raise ProjectError(
            f"The model is converted on this machine, which is {here}: none of [image] platforms.",
            hint=f'Add "{here}" to [image] platforms, or build on such a machine.',
        )
    taken = [file.path for file in (*plan.weights_files, *plan.app_files)]
    if any(path == conversion.path or path.startswith(f"{conversion.path}/") for path in taken):
        raise ProjectError(
            f"The converted model would be {conversion.path}, which [image] include takes along already.",
            hint="Rename that file, or the model.",
        )
    fitting = bring_up_to_date(plan, here, session, locked=locked, upgrade=upgrade)
    compression = Compression(plan.compression.value)
    if conversion.quantize is not None:
        return _with_language_model(plan, conversion, conversion.quantize, fitting, session), fitting.changes
    converted = convert(_task(plan, conversion, fitting, session), session, compression)
    file = ContextFile(conversion.path, session.cache.blob_path(converted.digest), converted.size, executable=False)
    report = replace(plan.optimize, evidence=(*plan.optimize.evidence, _compared(converted, conversion)))
    warnings = (*plan.warnings, *([_MISSING] if converted.refuses_missing else []))
    plan = replace(plan, weights_files=(*plan.weights_files, file), optimize=report, warnings=warnings)
    return plan, fitting.changes


def _with_language_model(
    plan: Plan, conversion: Conversion, quantize: Quantization, fitting: Locked, session: Session
) -> Plan:
    model = plan.model
    assert model is not None and fitting.lock.conversion is not None
    a_file = model.format == "gguf"
    task = LanguageTask(
        title=model.path.relative_to(plan.project.directory).as_posix(),
        folder=model.path.parent if a_file else model.path,
        files=model.files,
        gguf=model.path.name if a_file else None,
        precision=_PRECISIONS[quantize],
        first_text=FIRST_TEXT.request,
        wheels=fitting.lock.conversion.wheels,
        base_key=fitting.base.to_dict(),
        base=partial(_base, plan, conversion, fitting, session),
    )
    converted = convert_language_model(task, session, Compression(plan.compression.value))
    files = tuple(
        ContextFile(
            f"{conversion.path}/{file.name}", session.cache.blob_path(file.digest), file.size, executable=False
        )
        for file in converted.files
    )
    size = human_size(sum(file.size for file in files))
    wrote = f"{size} in {len(files)} files; it wrote {converted.text!r}"
    report = replace(plan.optimize, evidence=(*plan.optimize.evidence, wrote))
    plan = replace(plan, weights_files=(*plan.weights_files, *files), optimize=report)
    if plan.proof.value is not FIRST_TEXT:
        return plan
    golden = msgspec.structs.replace(FIRST_TEXT, response={"text": converted.text}, compare="answer")
    return replace(plan, proof=replace(plan.proof, value=golden))


_PRECISIONS: dict[Quantization, str] = {"4bit": "int4", "8bit": "int8", "none": "fp32"}
_MISSING = (
    "the model was trained without missing values and answers rows with such values nevertheless; converted to ONNX, "
    "it refuses them"
)


def _task(plan: Plan, conversion: Conversion, fitting: Locked, session: Session) -> Task:
    project, model = plan.project, plan.model
    assert model is not None and fitting.lock.conversion is not None
    engine = project.settings.model.engine or model.engine
    path = model.path.relative_to(project.directory).as_posix()
    digest = file_digest(model.path).removeprefix("sha256:") if model.path.is_file() else None
    return Task(
        title=path,
        model=ModelFile(
            path,
            model.format,
            engine,
            digest,
            trust=project.settings.model.trust and digest is None,
            trusted_types=project.settings.model.trusted_types,
            task=(project.settings.model.task or model.task) if engine == "transformers" else None,
        ),
        folder=project.directory,
        files=tuple(dict.fromkeys((*model.files, *model.code))),
        golden=plan.golden,
        tolerance=conversion.tolerance,
        wheels=fitting.lock.conversion.wheels,
        base_key=fitting.base.to_dict(),
        base=partial(_base, plan, conversion, fitting, session),
    )


def _base(plan: Plan, conversion: Conversion, fitting: Locked, session: Session) -> Base:
    """The base to convert on, with the wheels of the environment in the cache."""
    assert fitting.lock.conversion is not None
    wheels, target = fitting.lock.conversion.wheels, fitting.lock.target
    offered = [wheel for wheel in wheels if wheel.source is None]
    fetch_wheels(offered, session, target, source=conversion.requirements, directory=plan.project.directory)
    builder = source_builder(plan, target, session, lambda: fitting.base, wheels)
    built = replace(builder, requirements=conversion.requirements)
    built.rebuild_all([wheel for wheel in wheels if wheel.source is not None])
    return builder.base()


def _compared(converted: Converted, conversion: Conversion) -> str:
    return (
        f"compared on {converted.rows} {conversion.asked}: the largest difference of two {conversion.compared} is "
        f"{converted.worst:.1g} ({converted.precision})"
    )
