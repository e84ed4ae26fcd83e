#!/bin/sh
# Make the work pools, the deployments of prefect.yaml and the automation that finds dead runs.
# Safe to run again: existing pools stay, and deployments are updated to this version.
set -eu
: "${ZUTIS_STORE:?say where artifacts are kept: ZUTIS_STORE=/srv/zutis/store}"
cd "$(dirname "$0")/.."

for pool in cpu gpu; do
    prefect work-pool inspect "$pool" >/dev/null 2>&1 ||
        prefect work-pool create "$pool" --type process
done
prefect --no-prompt deploy --all
python -c "from flows.service.deployments import install_automation; install_automation()"
