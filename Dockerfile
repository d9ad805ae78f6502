# The service with the helm and the chart it was tested with. Pin the bases by digest when you build for production:
#   docker build --build-arg PYTHON_IMAGE=python@sha256:... --build-arg GO_IMAGE=golang@sha256:... .
ARG GO_IMAGE=golang:1.26-bookworm
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# helm from the same pins as the tests' (devcluster/tools/helm/go.mod).
FROM ${GO_IMAGE} AS helm
WORKDIR /src
COPY devcluster/tools/helm/go.mod devcluster/tools/helm/go.sum ./
RUN go mod download
RUN version="$(go list -m -f '{{.Version}}' helm.sh/helm/v4)" \
    && CGO_ENABLED=0 go build -trimpath -mod=readonly \
        -ldflags "-s -w -X helm.sh/helm/v4/internal/version.version=${version}" \
        -o /helm helm.sh/helm/v4/cmd/helm

FROM ${PYTHON_IMAGE} AS packages
COPY requirements.lock ./
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin user-pods
COPY --from=helm /helm /usr/local/bin/helm
COPY --from=packages /venv /venv
COPY service /app/service
COPY chart/user-pod /app/chart/user-pod
WORKDIR /app
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HELM_CACHE_HOME=/tmp/helm/cache \
    HELM_CONFIG_HOME=/tmp/helm/config \
    HELM_DATA_HOME=/tmp/helm/data
# Numeric, so that Kubernetes can tell that it is not root. The root may be read-only; /tmp must not.
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('USER_PODS_PORT', '8080') + '/livez', timeout=2)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
