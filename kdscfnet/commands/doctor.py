"""Versions, devices, data sets and weights found, disk space; known clashes by name, with the command that mends each.

Exit code 0: nothing is wrong; 1: something is."""

from __future__ import annotations

import json

from kdscfnet import diagnosis, doctor


def add_arguments(parser):
    parser.add_argument("--data", metavar="DIR", default="data", help="where data sets are (default: data)")
    parser.add_argument("--weights", metavar="DIR", help="where weights are (default: $KDSCFNET_WEIGHTS, or weights)")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(args):
    facts = doctor.look(args.data, args.weights)
    findings = diagnosis.diagnose(facts)
    faulty = any(finding.fault for finding in findings)
    if args.json:
        found = {"ok": not faulty, "found": dict(doctor.describe(facts)), "findings": list(map(vars, findings))}
        print(json.dumps(found, indent=2))
    else:
        print(doctor.report(facts, findings))
    return int(faulty)
