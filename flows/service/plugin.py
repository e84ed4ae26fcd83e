"""The Prefect plugin that makes `prefect deployment run build-pseudolabels` work as it is.

Prefect loads it as an entry point of the group `prefect.plugins`, where plugins are enabled: in
this project's folder (`[tool.prefect.plugins]` of pyproject.toml), elsewhere by
PREFECT_PLUGINS_ENABLED=1. It does two things:

- A deployment's name without the flow's is resolved if only one deployment has it. Prefect's own
  form, FLOW/DEPLOYMENT, works as before, and is to be used where the plugin is off.
- Where no server is configured, that of a running `zutis serve` is used.

It is imported while Prefect itself is being imported, so it imports Prefect in functions only.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from prefect.plugins import SetupResult, register_hook

from flows.service.notice import read_notice

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.plugins import HookContext

    Lookup = Callable[[PrefectClient, str], Awaitable[DeploymentResponse]]


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Prefect's hook, called once a process before anything else."""
    from prefect.client.orchestration import PrefectClient

    _resolve_bare_names(PrefectClient)
    if ctx.api_url:
        return None
    served = read_notice()
    return SetupResult(env={"PREFECT_API_URL": served}) if served else None


def _resolve_bare_names(client: type[PrefectClient]) -> None:
    """Wrap the look-up that the command line and `run_deployment` share.

    If Prefect has changed the look-up, it is left alone: the form with a slash still works.
    """
    lookup: Any = getattr(client, "read_deployment_by_name", None)
    if lookup is None or hasattr(lookup, "__wrapped__") or not inspect.iscoroutinefunction(lookup):
        return
    client.read_deployment_by_name = _resolving(lookup)  # type: ignore[assignment,method-assign]


def _resolving(lookup: Lookup) -> Lookup:
    @functools.wraps(lookup)
    async def read_deployment_by_name(self: PrefectClient, name: str) -> DeploymentResponse:
        return await lookup(self, name if "/" in name else await _full_name(self, name))

    return read_deployment_by_name


async def _full_name(client: PrefectClient, name: str) -> str:
    """FLOW/DEPLOYMENT of the only deployment with that name; the name itself if there is none.

    Raises:
        ValueError: several deployments have it. Prefect's command line prints the sentence.
    """
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    chosen = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    found = await client.read_deployments(deployment_filter=chosen)
    names = sorted([f"{(await client.read_flow(d.flow_id)).name}/{d.name}" for d in found])
    if len(names) > 1:
        raise ValueError(f"Several deployments are called {name}: say which, {' or '.join(names)}.")
    return names[0] if names else f"{name}/{name}"
