# One image for ingest, worker, console and migrate: `docker build -t ackstream .`, then `docker run ackstream worker`.

FROM python:3.13-slim AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY deploy/image.lock deploy/
# The environment has no pip of its own: nothing is installed at run time. All cores compile, where pip uses one.
RUN python -m venv --without-pip /opt/ackstream \
    && pip --python /opt/ackstream/bin/python install --no-compile --require-hashes --only-binary :all: -r deploy/image.lock \
    && /opt/ackstream/bin/python -m compileall -q -j 0 /opt/ackstream

FROM dependencies AS build
COPY . .
RUN pip --python /opt/ackstream/bin/python install --no-deps --no-build-isolation --root /own .

FROM python:3.13-slim
# A fixed number, so that an owner of mounted files can be named; nobody logs in. The folder is for data, ingest's spool
# for one: a new volume that is mounted there gets its owner.
RUN groupadd --gid 10001 ackstream \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin ackstream \
    && mkdir --mode 0700 /var/lib/ackstream \
    && chown 10001:10001 /var/lib/ackstream
# Two layers: a new version with the same dependencies changes only the small one.
COPY --from=dependencies /opt/ackstream /opt/ackstream
COPY --from=build /own/opt/ackstream /opt/ackstream
# In a container loopback is out of reach; signatures are required unless the settings say otherwise.
ENV PATH=/opt/ackstream/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    ACKSTREAM_DATA=/var/lib/ackstream ACKSTREAM_HOST=0.0.0.0
WORKDIR /app
USER 10001:10001
EXPOSE 3000 8080 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["ackstream"]
