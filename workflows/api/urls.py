"""The addresses of the API, below `/api/v1/`."""

from django.urls import path, re_path, register_converter
from django.urls.converters import StringConverter

from workflows.api import (
    approvals,
    callbacks,
    definitions,
    environments,
    events,
    guards,
    incidents,
    migrations,
    profiles,
    runs,
    steps,
    tokens,
)
from workflows.api.door import Nowhere

app_name = "api"


class StepPath(StringConverter):
    """The path of a step, such as `ship[3].pack`."""

    regex = r"[A-Za-z0-9_.\[\]-]{1,1000}"


register_converter(StepPath, "step")

urlpatterns = [
    path("workflows/", definitions.Workflows.as_view(), name="workflows"),
    path("workflows/<slug:name>/", definitions.OneWorkflow.as_view(), name="workflow"),
    path("workflows/<slug:name>/versions/", definitions.Versions.as_view(), name="versions"),
    path(
        "workflows/<slug:name>/versions/<int:number>/",
        definitions.OneVersion.as_view(),
        name="version",
    ),
    path("language/schema/", definitions.LanguageSchema.as_view(), name="language-schema"),
    path("language/validate/", definitions.Validate.as_view(), name="validate"),
    path("runs/", runs.Runs.as_view(), name="runs"),
    path("runs/bulk/", runs.BulkRuns.as_view(), name="bulk-runs"),
    path("runs/migration/", migrations.MigrateRuns.as_view(), name="migrate-runs"),
    path("runs/migration/preflight/", migrations.Preflight.as_view(), name="preflight-migration"),
    path("runs/<uuid:run_id>/", runs.OneRun.as_view(), name="run"),
    path("runs/<uuid:run_id>/pause/", runs.PauseRun.as_view(), name="pause-run"),
    path("runs/<uuid:run_id>/resume/", runs.ResumeRun.as_view(), name="resume-run"),
    path("runs/<uuid:run_id>/cancel/", runs.CancelRun.as_view(), name="cancel-run"),
    path("runs/<uuid:run_id>/replay/", runs.ReplayRun.as_view(), name="replay-run"),
    path("runs/<uuid:run_id>/undo/", runs.UndoRun.as_view(), name="undo-run"),
    path("runs/<uuid:run_id>/fork/", runs.ForkRun.as_view(), name="fork-run"),
    path("runs/<uuid:run_id>/journal/", steps.JournalOfRun.as_view(), name="journal"),
    path("runs/<uuid:run_id>/steps/", steps.Steps.as_view(), name="steps"),
    path("runs/<uuid:run_id>/steps/<step:path>/", steps.OneStep.as_view(), name="step"),
    path(
        "runs/<uuid:run_id>/steps/<step:path>/attempts/", steps.Attempts.as_view(), name="attempts"
    ),
    path(
        "runs/<uuid:run_id>/steps/<step:path>/callback/",
        callbacks.CallbackLink.as_view(),
        name="callback-link",
    ),
    path("runs/<uuid:run_id>/waits/", steps.Waits.as_view(), name="waits"),
    path(
        "callbacks/<uuid:run_id>/<step:path>/<int:attempt>/<str:signature>/",
        callbacks.Callbacks.as_view(),
        name="callback",
    ),
    path("incidents/", incidents.Incidents.as_view(), name="incidents"),
    path("incidents/<uuid:incident_id>/", incidents.OneIncident.as_view(), name="incident"),
    path(
        "incidents/<uuid:incident_id>/replay/",
        incidents.ReplayIncident.as_view(),
        name="replay-incident",
    ),
    path(
        "incidents/<uuid:incident_id>/skip/", incidents.SkipIncident.as_view(), name="skip-incident"
    ),
    path(
        "incidents/<uuid:incident_id>/discard/",
        incidents.DiscardIncident.as_view(),
        name="discard-incident",
    ),
    path("events/", events.Events.as_view(), name="events"),
    path("events/<uuid:event_id>/", events.OneEvent.as_view(), name="event"),
    path("events/<uuid:event_id>/effects/", events.EffectsOfEvent.as_view(), name="effects"),
    path("events/<uuid:event_id>/start-again/", events.StartAgain.as_view(), name="start-again"),
    path("approvals/", approvals.Approvals.as_view(), name="approvals"),
    path("approvals/decide/", approvals.DecideApprovals.as_view(), name="decide-approvals"),
    path("approvals/<uuid:approval_id>/", approvals.OneApproval.as_view(), name="approval"),
    path(
        "approvals/<uuid:approval_id>/decide/",
        approvals.DecideApproval.as_view(),
        name="decide-approval",
    ),
    path(
        "approvals/<uuid:approval_id>/hand/", approvals.HandApproval.as_view(), name="hand-approval"
    ),
    path("delegations/", approvals.Delegations.as_view(), name="delegations"),
    path("delegations/<uuid:delegation_id>/", approvals.OneDelegation.as_view(), name="delegation"),
    path("environments/", environments.Environments.as_view(), name="environments"),
    path("environments/<slug:name>/", environments.OneEnvironment.as_view(), name="environment"),
    path("guards/", guards.Guards.as_view(), name="guards"),
    path("guards/<slug:environment>/<str:name>/", guards.OneGuard.as_view(), name="guard"),
    path(
        "guards/<slug:environment>/<str:name>/parked/",
        guards.ParkedSteps.as_view(),
        name="parked-steps",
    ),
    path(
        "guards/<slug:environment>/<str:name>/open/", guards.OpenGuard.as_view(), name="open-guard"
    ),
    path(
        "guards/<slug:environment>/<str:name>/close/",
        guards.CloseGuard.as_view(),
        name="close-guard",
    ),
    path("profiles/", profiles.Profiles.as_view(), name="profiles"),
    path("profiles/<int:profile>/", profiles.OneProfile.as_view(), name="profile"),
    path("profiles/<int:profile>/clear/", profiles.ClearProfile.as_view(), name="clear-profile"),
    path(
        "profiles/<int:profile>/empty-folder/",
        profiles.EmptyFolder.as_view(),
        name="empty-profile-folder",
    ),
    path(
        "profiles/<int:profile>/disable/",
        profiles.DisableProfile.as_view(),
        name="disable-profile",
    ),
    path("profiles/<int:profile>/enable/", profiles.EnableProfile.as_view(), name="enable-profile"),
    path("tokens/", tokens.Tokens.as_view(), name="tokens"),
    path("tokens/<slug:key>/", tokens.OneToken.as_view(), name="token"),
    re_path(r"^", Nowhere.as_view()),
]
