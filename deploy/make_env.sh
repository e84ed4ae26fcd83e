#!/bin/sh
# Write .env for docker-compose.yml: random passwords, readable by you alone.
#
#     deploy/make_env.sh CORPUS [FILE]
#
# CORPUS is the folder of images that the workers may read, FILE another place than ./.env.
set -eu

corpus=${1:?say which folder of images the workers may read: deploy/make_env.sh CORPUS}
file=${2:-.env}
corpus=$(cd "$corpus" && pwd)

secret() { od -A n -N 24 -t x1 /dev/urandom | tr -d ' \n'; }

umask 077
set -C # never over an .env that is there: its passwords are those of the volumes
cat >"$file" <<END
POSTGRES_PASSWORD=$(secret)
REDIS_PASSWORD=$(secret)
PREFECT_AUTH_STRING=zutis:$(secret)
S3_ACCESS_KEY=zutis
S3_SECRET_KEY=$(secret)
ZUTIS_CORPUS=$corpus
END
echo "Wrote $file. The user and the password of Prefect's UI are its PREFECT_AUTH_STRING."
