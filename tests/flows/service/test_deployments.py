"""The deployments, their run form, the automation and the plugin, on a real Prefect API."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events.schemas.automations import EventTrigger
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.utilities.importtools import import_object

from flows.build_pseudolabels import build_pseudolabels
from flows.evaluate_zutis import evaluate_zutis
from flows.service import plugin
from flows.service.deployments import (
    AUTOMATION,
    HEARTBEAT_SECONDS,
    TAG,
    install_automation,
    make_deployments,
)
from flows.train_zutis import train_zutis
from storage.errors.exceptions import ConfigError

NAMES = ["build-pseudolabels", "train-zutis", "evaluate-zutis"]


def of_form(flow: Any, *path: str) -> dict[str, Any]:
    """The run form's schema of a parameter, or of one of its fields."""
    schema = flow.parameters.model_dump()
    found = schema["properties"][path[0]]
    if len(path) > 1:
        settings = schema["definitions"][path[1]]
        found = settings["properties"][path[2]]
    return dict(found)


@pytest.mark.parametrize("flow", [build_pseudolabels, train_zutis, evaluate_zutis])
def test_every_field_of_the_run_form_is_described(flow: Any):
    for name, field in flow.parameters.properties.items():
        assert field.get("description"), name
    for settings in flow.parameters.definitions.values():
        for name, field in settings["properties"].items():
            assert field.get("description"), name


def test_known_values_are_offered_beside_any_other_text(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "vocabularies").mkdir()
    (tmp_path / "vocabularies" / "pond.txt").write_text("frog\nnewt\n")
    monkeypatch.chdir(tmp_path)
    fresh = type(build_pseudolabels)(build_pseudolabels.fn, name="fresh")
    listed, other = of_form(fresh, "vocabulary")["anyOf"]
    assert {"coco", "voc2012", "pond"} <= set(listed["enum"])
    assert other["type"] == "string"
    assert "enum" not in other
    chosen = of_form(evaluate_zutis, "evaluation", "EvaluationSettings", "on")["anyOf"][0]
    assert "coco20k" in chosen["enum"]


def test_bounds_and_choices_reach_the_form():
    number, text = of_form(build_pseudolabels, "per_category")["anyOf"]
    assert (number["type"], number["minimum"]) == ("integer", 1)
    assert re.fullmatch(text["pattern"], "auto:20-500")
    size = of_form(build_pseudolabels, "mask_size")
    assert (size["minimum"], size["maximum"]) == (32, 4096)
    assert of_form(build_pseudolabels, "precision")["enum"] == ["auto", "float32", "bfloat16"]
    assert of_form(train_zutis, "training", "TrainingSettings", "iterations")["minimum"] == 1


def test_each_flow_is_deployed_under_its_own_name_and_found_from_any_folder():
    deployments = make_deployments({})
    assert [d.full_name for d in deployments] == [f"{name}/{name}" for name in NAMES]
    for deployment in deployments:
        assert deployment.tags == [TAG]
        assert import_object(str(deployment.entrypoint)).name == deployment.flow_name


def test_defaults_are_for_the_build_alone():
    build, train, evaluate = make_deployments({"corpus": "photographs", "vocabulary": "coco"})
    assert build.parameters == {"corpus": "photographs", "vocabulary": "coco"}
    assert train.parameters == evaluate.parameters == {}


def test_a_default_of_no_parameter_is_refused_with_the_names_that_there_are():
    with pytest.raises(ConfigError, match=r"no parameter corpora, only corpus, vocabulary, "):
        make_deployments({"corpora": "photographs"})


@pytest.fixture
def deployed(prefect_api: None) -> Iterator[dict[str, Any]]:
    """The deployments' ids by name, on the test's API."""
    yield {deployment.name: deployment.apply() for deployment in make_deployments({})}
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)


@pytest.mark.slow
def test_schedules_made_in_the_ui_outlive_a_restart(deployed: dict[str, Any]):
    build = deployed["build-pseudolabels"]
    daily = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(days=1)))
    with get_client(sync_client=True) as client:
        client.create_deployment_schedules(build, [daily])
        client.pause_deployment(deployed["train-zutis"])
        for deployment in make_deployments({}):
            deployment.apply()
        assert len(client.read_deployment_schedules(build)) == 1
        assert client.read_deployment(deployed["train-zutis"]).paused


@pytest.mark.slow
def test_the_server_checks_what_a_run_is_given(deployed: dict[str, Any]):
    build = deployed["build-pseudolabels"]
    given = {"corpus": "photographs", "vocabulary": "own/names.txt"}
    with get_client(sync_client=True) as client:
        for wrong in ({"per_category": 0}, {"mask_size": 9000}, {"overlap": "first"}):
            with pytest.raises(PrefectHTTPStatusError, match="409") as refused:
                client.create_flow_run_from_deployment(build, parameters=given | wrong)
            assert next(iter(wrong)) in refused.value.response.text
        run = client.create_flow_run_from_deployment(build, parameters=given)
        client.delete_flow_run(run.id)


@pytest.mark.slow
def test_the_automation_is_installed_once_and_left_to_whoever_changes_it(prefect_api: None):
    install_automation()
    with get_client(sync_client=True) as client:
        [automation] = client.read_automations_by_name(AUTOMATION)
        client.pause_automation(automation.id)
        install_automation()
        [automation] = client.read_automations_by_name(AUTOMATION)
        assert not automation.enabled
        trigger = automation.trigger
        assert isinstance(trigger, EventTrigger)
        assert trigger.match_related.includes(  # type: ignore[union-attr]
            [{"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}]  # type: ignore[list-item]
        )
        assert trigger.within > 2 * timedelta(seconds=HEARTBEAT_SECONDS)
        client.delete_automation(automation.id)


def look_up(name: str) -> str:
    """The full name of the deployment that a client with the plugin finds."""

    class Client(PrefectClient):
        pass

    async def find() -> str:
        plugin._resolve_bare_names(Client)
        async with Client(str(PREFECT_API_URL.value())) as client:
            found = await client.read_deployment_by_name(name)
            return f"{(await client.read_flow(found.flow_id)).name}/{found.name}"

    return asyncio.run(find())


@pytest.mark.slow
def test_a_bare_name_is_resolved_where_one_deployment_has_it(deployed: dict[str, Any]):
    for name in NAMES:
        assert look_up(name) == f"{name}/{name}"
        assert look_up(f"{name}/{name}") == f"{name}/{name}"
    with pytest.raises(ObjectNotFound):
        look_up("nowhere")


@pytest.mark.slow
def test_a_bare_name_that_several_have_is_not_guessed(deployed: dict[str, Any]):
    other = make_deployments({})[1]
    other.name = "build-pseudolabels"
    other.apply()
    with pytest.raises(ValueError, match=r"build-pseudolabels/.* or train-zutis/build-pseudo"):
        look_up("build-pseudolabels")


def test_the_plugin_leaves_a_prefect_alone_that_has_no_such_method():
    class Changed:
        read_deployment_by_name = "something else"

    plugin._resolve_bare_names(Changed)  # type: ignore[arg-type]
    assert Changed.read_deployment_by_name == "something else"
