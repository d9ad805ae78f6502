# The service with the helm and the chart it was tested with. Pin the bases by digest when you build for production:
#   docker build --build-arg BASE_IMAGE=debian@sha256:... --build-arg GO_IMAGE=golang@sha256:... .
# Behind a proxy that opens TLS, hand over the authority it signs with: --secret id=ca,src=<bundle>. It does not stay in
# the image.
ARG GO_IMAGE=docker.io/library/golang:1.26-bookworm
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

# helm from the same pins as the tests' (devcluster/tools/helm/go.mod).
FROM ${GO_IMAGE} AS helm
WORKDIR /src
COPY devcluster/tools/helm/go.mod devcluster/tools/helm/go.sum ./
RUN --mount=type=secret,id=ca \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && go mod download
RUN version="$(go list -m -f '{{.Version}}' helm.sh/helm/v4)" \
    && CGO_ENABLED=0 go build -trimpath -mod=readonly \
        -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=${version}" \
        -o /out/helm helm.sh/helm/v4/cmd/helm

# pip stays outside of the environment: the service does not install anything. It talks to Kubernetes by plain JSON, so
# the client's generated code, more than everything else together, is left out; so are debugging symbols.
FROM ${BASE_IMAGE} AS packages
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        binutils ca-certificates python3 python3-pip python3-venv
COPY requirements.lock ./
RUN --mount=type=secret,id=ca \
    if [ -e /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python3 -m venv --without-pip /out/venv \
    && python3 -m pip --python /out/venv/bin/python install --no-cache-dir --require-hashes -r requirements.lock \
    && cd /out/venv/lib/python3*/site-packages \
    && find kubernetes/client/models kubernetes/client/api kubernetes/aio/client/models kubernetes/aio/client/api \
        -type f ! -name '__init__*' -delete \
    && find . -name '*.so' -exec strip --strip-unneeded {} +

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="session-service" \
      org.opencontainers.image.description="A pod for every user that sleeps when idle and wakes when its user returns" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin user-pods
COPY --from=helm /out/helm /usr/local/bin/helm
COPY --from=packages /out/venv /venv
COPY service /app/service
COPY chart/user-pod /app/chart/user-pod
WORKDIR /app
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HELM_CACHE_HOME=/tmp/helm/cache \
    HELM_CONFIG_HOME=/tmp/helm/config \
    HELM_DATA_HOME=/tmp/helm/data
# Now, since the root may be read-only later.
RUN python -m compileall -q service && python -m service serve --help >/dev/null
# Numeric, so that Kubernetes can tell that it is not root. The root may be read-only; /tmp must not.
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('USER_PODS_PORT', '8080') + '/livez', timeout=2)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
