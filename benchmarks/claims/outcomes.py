"""The outcome of each claim, as plain values and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from benchmarks.claims.claims import Claim
from benchmarks.claims.collect import SAMPLES, stands_in
from benchmarks.claims.evidence import Evidence
from benchmarks.claims.measures import LATENT_SEED
from benchmarks.claims.statistics import CONFIDENCE, Effect, Verdict, judge
from benchmarks.claims.subjects import STAND_IN, SUBJECTS, Setting

LABELS = {
    "quick": "quick scale: narrow networks and short runs; each verdict holds for this setting only",
    "full": "full scale: the settings of the sources",
}


@dataclass(frozen=True)
class Outcome:
    """A claim and its verdict."""

    claim: Claim
    verdict: Verdict
    why: str
    effects: Sequence[Effect] = ()
    notes: Sequence[str] = ()


def outcome_of(claim: Claim, evidence: Evidence, missing: Mapping[str, str], setting: Setting) -> Outcome:
    """Judges a claim on the seeds that have all the runs it needs."""
    lacking = [f"{SUBJECTS[name].title}: {missing[name]}" for name in claim.subjects if name in missing]
    seeds = evidence.seeds(*claim.subjects)
    if not seeds:
        return Outcome(claim, "not run", "; ".join(lacking) or "no seed has all the runs that the claim needs")
    courses = {name: {seed: evidence.courses[name][seed] for seed in seeds} for name in claim.subjects}
    try:
        effects = claim.analyse(Evidence(evidence.scale, courses))
    except ValueError as error:
        return Outcome(claim, "not run", f"not computable: {error}", notes=lacking)
    if stands_in(claim, setting):
        lacking = [f"trained on {STAND_IN} in place of faces: give --anime for faces", *lacking]
    return Outcome(claim, *judge(effects), effects, lacking)


def to_json(outcomes: Sequence[Outcome], evidence: Evidence, setting: Setting) -> bytes:
    """All results, with the values of each seed and the protocol. Values that are not finite become null."""
    content = {
        "schema_version": 1,
        "scale": setting.scale,
        "about": LABELS[setting.scale],
        "protocol": {
            "samples": SAMPLES[setting.scale],
            "latent_seed": LATENT_SEED,
            "weights": "of the generator itself, not its average; running statistics, no dropout",
            "split": "train",
            "confidence": CONFIDENCE,
            "interval": "expanded percentile bootstrap over seeds",
        },
        "claims": [_outcome(outcome) for outcome in outcomes],
        "measured": {
            name: {
                str(seed): {
                    str(epoch): {
                        "step": course.steps[epoch],
                        "seconds": course.seconds[epoch],
                        **_finite({key: value for key, value in metrics.items() if isinstance(value, float | int)}),
                    }
                    for epoch, metrics in course.metrics.items()
                }
                for seed, course in courses.items()
            }
            for name, courses in evidence.courses.items()
        },
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    claim = outcome.claim
    return {
        "id": claim.id,
        "claim": claim.sentence,
        "source": claim.source,
        "method": claim.method,
        "outside": claim.outside,
        "verdict": outcome.verdict,
        "why": outcome.why,
        "notes": list(outcome.notes),
        "effects": [
            {
                "name": effect.name,
                "measure": effect.measure,
                "decides": effect.decides,
                "claimed": effect.claimed,
                "verdict": effect.verdict if effect.claimed is not None else None,
                "seeds": effect.seeds,
                "groups": {label: [_number(value) for value in values] for label, values in effect.groups},
                **_finite(
                    {
                        "estimate": effect.estimate,
                        "low": effect.low,
                        "high": effect.high,
                        "hedges_g": effect.standardised,
                        "reference": effect.reference,
                    }
                ),
            }
            for effect in outcome.effects
        ],
    }


def _finite(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
