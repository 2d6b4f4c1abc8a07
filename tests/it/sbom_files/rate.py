import json, sys
from cyclonedx.model import XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.impact_analysis import *
from cyclonedx.model.vulnerability import *
from cyclonedx.output.json import JsonV1Dot6
bom = Bom.from_json(json.load(open(sys.argv[1])))
refs = {c.name.lower(): c.bom_ref.value for c in bom.components}
S = VulnerabilitySeverity
for id, name, severity, score, text in [
    ("CVE-2024-35195", "requests", S.MEDIUM, "5.6", "Session verify=False sticks to later requests of the connection."),
    ("CVE-2024-34069", "werkzeug", S.HIGH, "7.5", "The debugger can be reached from another origin."),
    ("CVE-2023-46136", "werkzeug", S.HIGH, "8.0", "Parsing of multipart data takes too long."),
    ("CVE-2024-22195", "jinja2", S.MEDIUM, "5.4", "xmlattr takes keys with spaces."),
    ("CVE-2024-39689", "certifi", S.LOW, None, "Root certificates of GLOBALTRUST."),
    ("GHSA-34jh-p97f-mpxf", "urllib3", None, None, "Proxy-Authorization goes along with a redirect."),
]:
    ratings = [] if severity is None else [VulnerabilityRating(severity=severity, score=score and __import__("decimal").Decimal(score), method=VulnerabilityScoreSource.CVSS_V3_1)]
    bom.vulnerabilities.add(Vulnerability(
        id=id, source=VulnerabilitySource(name="NVD", url=XsUri(f"https://nvd.nist.gov/vuln/detail/{id}")),
        ratings=ratings, description=text, affects=[BomTarget(ref=refs[name])],
        advisories=[VulnerabilityAdvisory(url=XsUri(f"https://osv.dev/vulnerability/{id}"))]))
print(JsonV1Dot6(bom).output_as_string(indent=1))
