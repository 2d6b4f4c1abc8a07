"""Checks decisions about drafts by two stock clients, with a gateway of one generation whose sandbox `coder` has a draft.

    drafts.py GENERATION ADDRESS    uses the tokens in STOCK_CLIENT_TOKENS, and STOCK_CLIENT_CALL to set a workflow

The published SDK has no methods of its own for drafts, but the stubs of all rpcs, which the stock command line uses too.
"""

import json
import os
import shlex
import subprocess
import sys
import traceback

import grpc
from openshell import sandbox as sdk
from openshell._proto import openshell_pb2 as messages

CALL_SECONDS = 30
SANDBOX = "coder"
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Client:
    """A client of one user."""

    def __init__(self, generation, address, token):
        self.generation = generation
        self.sandbox = sdk.SandboxClient(address, bearer_token=token, timeout=CALL_SECONDS)

    def call(self, method, **fields):
        """Calls a method about the sandbox."""
        name = {"0.0": "name", "0.1": "sandbox"}[self.generation]
        request = getattr(messages, f"{method}Request")(**{name: SANDBOX}, **fields)
        return getattr(self.sandbox._stub, method)(request, timeout=CALL_SECONDS)

    def draft(self, chunk=None):
        """Returns a draft, or the pending draft."""
        for draft in self.call("GetDraftPolicy").chunks:
            if draft.id == chunk or (chunk is None and draft.status == "pending"):
                return draft
        raise AssertionError(f"no draft {chunk or 'is pending'}")

    def approve(self, draft):
        return self.call("ApproveDraftChunk", chunk_id=draft.id, review_token=draft.review_token)

    def approve_all(self, *drafts):
        item = messages.DraftChunkApproval
        listed = [item(chunk_id=draft.id, review_token=draft.review_token) for draft in drafts]
        return self.call("ApproveAllDraftChunks", approvals=listed)


class Scene:
    def __init__(self, generation, address):
        tokens = json.loads(os.environ["STOCK_CLIENT_TOKENS"])
        self.ana, self.ben = (Client(generation, address, token) for token in tokens)
        self.chunk = None


def call(method, request):
    """Calls a method of Shoreguard's own API."""
    command = [*shlex.split(os.environ["STOCK_CLIENT_CALL"]), method, json.dumps(request)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=CALL_SECONDS)


def refused(action, *words):
    """Checks that a call is refused with FAILED_PRECONDITION and these words."""
    try:
        answer = action()
    except grpc.RpcError as error:
        text = error.details()
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, f"{error.code()}: {text}"
        assert all(word in text for word in words), text
        return
    raise AssertionError(f"was answered: {answer}")


@check
def without_a_workflow_a_draft_is_edited(scene):
    draft = scene.ana.draft()
    rule = draft.proposed_rule
    rule.endpoints[0].host = "edited.example"
    scene.ana.call("EditDraftChunk", chunk_id=draft.id, proposed_rule=rule)
    edited = scene.ana.draft(draft.id)
    assert edited.proposed_rule.endpoints[0].host == "edited.example", edited
    scene.ana.call("EditDraftChunk", chunk_id=draft.id, proposed_rule=draft.proposed_rule)
    scene.chunk = draft.id


@check
def without_a_workflow_a_draft_is_approved_and_undone(scene):
    approved = scene.ana.approve(scene.ana.draft(scene.chunk))
    assert approved.policy_version > 0 and approved.policy_hash, approved
    undone = scene.ana.call("UndoDraftChunk", chunk_id=scene.chunk)
    assert undone.policy_version > approved.policy_version, undone
    assert scene.ana.draft(scene.chunk).status == "pending"


@check
def below_quorum_the_vote_is_recorded(scene):
    group = {"name": "reviewers", "required": 2, "voters": {"users": ["ana@example.com", "ben@example.com"]}}
    rule = {"groups": [group], "distinct_actors": False}
    call("SetWorkflow", {"gateway": "office", "rule": rule})
    # Evaluates the draft again: the policy was written since, and no call does that below quorum.
    scene.ana.call("EditDraftChunk", chunk_id=scene.chunk, proposed_rule=scene.ana.draft(scene.chunk).proposed_rule)
    draft = scene.ana.draft(scene.chunk)
    for _ in range(2):
        refused(lambda: scene.ana.approve(draft), "vote recorded, 1 of 2")
    refused(lambda: scene.ana.approve_all(draft), "vote recorded, 1 of 2")
    assert scene.ana.draft(scene.chunk).status == "pending"


@check
def a_wrong_token_and_an_approval_of_everything_are_refused(scene):
    draft = scene.ben.draft(scene.chunk)
    draft.review_token = "wrong"
    refused(lambda: scene.ben.approve(draft), "review token does not match")
    refused(lambda: scene.ben.approve_all(), "workflow")


@check
def at_quorum_the_client_gets_version_and_hash(scene):
    approved = scene.ben.approve_all(scene.ben.draft(scene.chunk))
    assert approved.policy_version > 0 and approved.policy_hash, approved
    assert (approved.chunks_approved, approved.chunks_skipped) == (1, 0), approved
    assert scene.ben.draft(scene.chunk).status == "approved"


@check
def the_removal_of_an_approved_draft_is_reviewed(scene):
    refused(lambda: scene.ana.call("UndoDraftChunk", chunk_id=scene.chunk), "under review")
    refused(lambda: scene.ana.call("RejectDraftChunk", chunk_id=scene.chunk, reason="no"), "under review")
    assert scene.ana.draft(scene.chunk).status == "approved"


@check
def nothing_is_left_to_clear(scene):
    assert scene.ana.call("ClearDraftChunks").chunks_cleared == 0


def main():
    scene = Scene(*sys.argv[1:])
    held = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            function(scene)
            held += 1
            print(f"ok    {name}")
        except Exception:  # any failure, so that the other checks still run
            print(f"FAIL  {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{held} of {len(CHECKS)} checks hold")
    return 0 if held == len(CHECKS) else 1


if __name__ == "__main__":
    sys.exit(main())
