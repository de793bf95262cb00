"""Records what the real packages answer to cases: `DIR/scenarios/PACKAGE.json` gives `DIR/recordings/PACKAGE.json`.

    python3 record.py --cases DIR [--only PACKAGE]… [--check]

Every case is asked twice, of a store that was made anew: one whose answers differ is no case, and is complained about,
as is a step whose `expect` is not met. With --check nothing is written and the answers are compared with what is
recorded.
It starts the packages itself, as `lab.py` does, unless --ports names the `ports.json` of a lab that runs.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

import replay
from lab import Lab


def record(cases, sites):
    """What each case came to, and what is wrong with it."""
    recorded, complaints = {}, []
    for case in cases["scenarios"]:
        profile = case.get("profile", "default")
        once, again = (replay.Case(case, cases["setup"], replay.Site(**sites[profile])).run() for _ in range(2))
        recorded[case["name"]] = {"profile": profile, "steps": once}
        complaints += [f"{case['name']}: {complaint}" for complaint in unmet(case, once)]
        complaints += [f"{case['name']}: not the same twice: {difference}" for difference in differences(once, again)]
    return recorded, complaints


def unmet(case, steps):
    """What a case expects and did not get."""
    for done in steps:
        step, form = case["steps"][done["step"]], done["norm"]
        expected = step.get("expect", {})
        where = f"step {done['step']} {done['label']}"
        if "error" in form:
            yield f"{where}: {form['error']}"
        elif "relation" in step and not form["holds"]:
            yield f"{where}: does not hold"
        elif "status" in expected and expected["status"] != form["status"]:
            yield f"{where}: expected {expected['status']}, got {form['status']}"
        elif "json" in expected and expected["json"] != form.get("body"):
            yield f"{where}: expected {expected['json']}, got {form.get('body')}"


def differences(some, others):
    """Steps whose normal forms are not the same to the letter, order of keys and all."""
    for one, other in zip(some, others, strict=True):
        before, after = (json.dumps(done["norm"], ensure_ascii=False) for done in (one, other))
        if before != after:
            yield f"step {one['step']} {one['label']}: {before} and {after}"


def main():
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", required=True, type=Path)
    options.add_argument("--only", action="append", metavar="PACKAGE")
    options.add_argument("--check", action="store_true")
    options.add_argument("--ports", type=Path)
    chosen = options.parse_args()
    with contextlib.ExitStack() as stack:
        if chosen.ports:
            ports = json.loads(chosen.ports.read_text(encoding="utf-8"))
        else:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-"))
            ports = stack.enter_context(Lab(scratch, chosen.cases, chosen.only))
        wrong = sum(
            record_package(chosen, package, sites) for package, sites in ports.items() if wanted(chosen, package)
        )
    return 1 if wrong else 0


def wanted(chosen, package):
    """A lab that runs already may serve packages that there are no cases of."""
    return (chosen.only is None or package in chosen.only) and (chosen.cases / f"scenarios/{package}.json").exists()


def record_package(chosen, package, sites):
    """Records one package, or checks it; the number of complaints."""
    cases = json.loads((chosen.cases / "scenarios" / f"{package}.json").read_text(encoding="utf-8"))
    recorded, complaints = record(cases, sites)
    file = chosen.cases / "recordings" / f"{package}.json"
    if chosen.check:
        before = json.loads(file.read_text(encoding="utf-8"))
        complaints += [f"{name}: not recorded" for name in recorded if name not in before]
        for name in before.keys() & recorded.keys():
            found = differences(before[name]["steps"], recorded[name]["steps"])
            complaints += [f"{name}: not as recorded: {difference}" for difference in found]
    else:
        file.parent.mkdir(exist_ok=True)
        file.write_text(written(recorded), encoding="utf-8")
    for complaint in complaints:
        print(f"  {complaint}")
    steps = sum(len(case["steps"]) for case in recorded.values())
    print(f"{package}: {len(recorded)} cases, {steps} steps, {len(complaints)} complaints", flush=True)
    return len(complaints)


def written(recorded):
    """JSON with a line for each step: one that changes is then one line of a diff."""
    cases = []
    for name, case in recorded.items():
        steps = ",\n".join("   " + json.dumps(step, ensure_ascii=False) for step in case["steps"])
        head = f'{json.dumps(name)}: {{"profile": {json.dumps(case["profile"])}, "steps": ['
        cases.append(f" {head}\n{steps}\n ]}}")
    return "{\n" + ",\n".join(cases) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
