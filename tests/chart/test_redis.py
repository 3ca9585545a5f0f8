"""Redis: the one beside the servers, started for real on what is rendered, and one that is elsewhere."""

import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

from conftest import refusal, render, unavailable


def settings(objects):
    lines = objects.one("ConfigMap", "roomcast-redis")["data"]["redis.conf"].splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def container(objects):
    (found,) = objects.one("StatefulSet", "roomcast-redis")["spec"]["template"]["spec"]["containers"]
    return found


def test_servers_find_it_and_have_its_password():
    env = render().env
    assert env["ROOMCAST_REDIS_URL"] == "redis://roomcast-redis:6379/0"
    assert env["ROOMCAST_REDIS_PASSWORD"] == {"secretKeyRef": {"name": "roomcast-redis", "key": "password"}}
    env = render(persona="existing-secret").env
    assert env["ROOMCAST_REDIS_PASSWORD"] == {"secretKeyRef": {"name": "chat-redis", "key": "password"}}


def test_a_secret_is_made_unless_one_is_there():
    made = render().one("Secret", "roomcast-redis")
    # A hook is no part of a revision, so neither an upgrade nor a rollback brings an old password back.
    assert made["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    objects = render({"redis.auth.existingSecret": "mine", "redis.auth.existingSecretKey": "pw"})
    assert not objects.all("Secret")
    ref = {"secretKeyRef": {"name": "mine", "key": "pw"}}
    assert container(objects)["env"] == [{"name": "REDISCLI_AUTH", "valueFrom": ref}]
    assert objects.env["ROOMCAST_REDIS_PASSWORD"] == ref


def test_it_keeps_what_it_has_or_nothing():
    kept = render()
    assert settings(kept)["appendonly"] == "yes" and settings(kept)["appendfsync"] == "everysec"
    stateful = kept.one("StatefulSet", "roomcast-redis")["spec"]
    (claim,) = stateful["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data" and "storageClassName" not in claim["spec"]
    assert stateful["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    chosen = render(
        {"redis.persistence.size": "9Gi", "redis.persistence.storageClass": "fast", "redis.persistence.whenDeleted": "Delete"}
    ).one("StatefulSet", "roomcast-redis")["spec"]
    assert chosen["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"
    assert chosen["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "9Gi"
    assert chosen["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"

    gone = render({"redis.persistence.enabled": False})
    assert settings(gone)["appendonly"] == "no" and "appendfsync" not in settings(gone)
    stateful = gone.one("StatefulSet", "roomcast-redis")["spec"]
    assert "volumeClaimTemplates" not in stateful
    assert {"name": "data", "emptyDir": {}} in stateful["template"]["spec"]["volumes"]


def test_it_refuses_when_full_and_throws_nothing_out():
    conf = settings(render({"redis.maxmemory": "2gb", "redis.resources.limits.memory": "3Gi", "redis.config": "maxclients 20000\nhz 20"}))
    assert conf["maxmemory-policy"] == "noeviction" and conf["maxmemory"] == "2gb"
    assert conf["maxclients"] == "20000" and conf["hz"] == "20"


def test_a_change_of_its_configuration_replaces_its_pod():
    def checksum(**values):
        return render(values).one("StatefulSet", "roomcast-redis")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum(replicaCount=3) != checksum(**{"redis.maxmemory": "500mb"})


def test_its_probes_differ_and_have_no_password():
    redis = container(render())
    assert redis["livenessProbe"]["tcpSocket"] == {"port": "redis"}
    assert redis["readinessProbe"]["exec"] == redis["startupProbe"]["exec"]
    assert "PASSWORD" not in str([redis[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")])
    assert redis["ports"] == [{"name": "redis", "containerPort": 6379, "protocol": "TCP"}]


def test_its_services():
    objects = render()
    assert "clusterIP" not in objects.one("Service", "roomcast-redis")["spec"]
    assert objects.one("Service", "roomcast-redis-headless")["spec"]["clusterIP"] == "None"
    assert objects.one("Service", "roomcast-redis")["spec"]["ports"][0]["appProtocol"] == "redis"


# --- Elsewhere ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("persona", ["ha", "external-redis", "single"])
def test_no_object_of_redis_is_made_where_it_is_elsewhere(persona):
    objects = render(persona=persona)
    assert not objects.all("StatefulSet") and not objects.all("Secret") and not objects.all("ConfigMap")
    assert not [thing for thing in objects if "redis" in thing["metadata"]["name"]]


def test_its_url_and_password():
    env = render(persona="ha").env
    assert env["ROOMCAST_REDIS_URL"] == "redis://redis.databases:6379/0"
    assert env["ROOMCAST_REDIS_PASSWORD"] == {"secretKeyRef": {"name": "redis", "key": "password"}}
    env = render(persona="external-redis").env
    assert env["ROOMCAST_REDIS_URL"] == {"secretKeyRef": {"name": "chat-redis", "key": "url"}}
    assert "ROOMCAST_REDIS_PASSWORD" not in env
    env = render({"redis.enabled": False, "externalRedis.url": "redis://chat@r:1/2"}).env
    assert env["ROOMCAST_REDIS_URL"] == "redis://chat@r:1/2" and "ROOMCAST_REDIS_PASSWORD" not in env


def test_a_certificate_authority_of_its_own():
    objects = render({"redis.enabled": False, "externalRedis.url": "rediss://r:6380", "externalRedis.caSecret": "ca"})
    (mount,) = objects.server["volumeMounts"]
    (volume,) = objects.one("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert mount["name"] == volume["name"] and volume["secret"]["secretName"] == "ca"
    assert objects.env["SSL_CERT_FILE"] == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
    objects = render({"redis.enabled": False, "externalRedis.url": "rediss://r:6380"})
    assert "volumeMounts" not in objects.server and "SSL_CERT_FILE" not in objects.env


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"url": "redis://r"}, "Two Redis are named."),
        ({"urlKey": "u", "existingSecret": "s"}, "Two Redis are named."),
        ({"url": "redis://r", "urlKey": "u", "existingSecret": "s"}, "both name the URL"),
        ({"urlKey": "u"}, "Set externalRedis.existingSecret to its name."),
        ({"url": "redis://r", "passwordKey": "p"}, "Set externalRedis.existingSecret to its name."),
        ({"url": "redis://r", "existingSecret": "s"}, "but not what to take from it"),
        ({"urlKey": "u", "passwordKey": "p", "existingSecret": "s"}, "Set externalRedis.passwordKey only beside externalRedis.url."),
        ({"passwordKey": "p", "existingSecret": "s"}, "Set externalRedis.url."),
        ({"url": "redis://:secret@r"}, "has a password in it"),
        ({"url": "redis://me:secret@r"}, "has a password in it"),
        ({"caSecret": "s"}, "externalRedis.caSecret is for a Redis elsewhere."),
        ({"url": "r:6379"}, "must start with redis://"),
    ],
)
def test_what_cannot_be_meant_is_refused(values, sentence):
    elsewhere = "Two Redis" not in sentence and "caSecret" not in values
    values = {f"externalRedis.{key}": value for key, value in values.items()} | {"redis.enabled": not elsewhere}
    said = refusal(values)
    assert sentence in said
    assert "secret@" not in said


# --- For real -----------------------------------------------------------------------------------------------------


def cli(port, *command, password=None):
    env = {key: value for key, value in os.environ.items() if key != "REDISCLI_AUTH"}
    if password is not None:
        env["REDISCLI_AUTH"] = password
    return subprocess.run(["redis-cli", "-p", str(port), *command], env=env, capture_output=True, text=True, timeout=10).stdout.strip()


@pytest.mark.parametrize("password", ["Abc123", "p@ss:w%rd/?#", "with \" and \\ and ' and $HOME `id` and blanks"])
def test_a_real_redis_starts_with_it_and_lets_nobody_in_without_the_password(tmp_path, password):
    if not shutil.which("redis-server"):
        unavailable("redis-server is missing")
    objects = render({"redis.maxmemory": "64mb"})
    redis = container(objects)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    folders = {mount["mountPath"]: mount["name"] for mount in redis["volumeMounts"]}
    assert set(folders) == {"/etc/roomcast-redis", "/data", "/tmp"}
    data = tmp_path / "data"
    data.mkdir()
    conf = objects.one("ConfigMap", "roomcast-redis")["data"]["redis.conf"]
    # Where it lies and the port are the only differences to the pod.
    (tmp_path / "redis.conf").write_text(conf.replace("/data", str(data)).replace("port 6379", f"port {port}"))
    command = [part.replace("/etc/roomcast-redis", str(tmp_path)) for part in redis["command"]]
    env = {"PATH": os.environ["PATH"], "REDISCLI_AUTH": password}
    server = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 10
        while cli(port, "ping", password=password) != "PONG":
            assert server.poll() is None and time.monotonic() < deadline, server.stdout
            time.sleep(0.05)
        assert cli(port, "ping").startswith("NOAUTH")
        assert cli(port, "ping", password="wrong").startswith("NOAUTH")
        assert cli(port, "config", "get", "maxmemory-policy", password=password).split() == ["maxmemory-policy", "noeviction"]
        assert cli(port, "config", "get", "maxmemory", password=password).split()[1] == str(64 << 20)
        assert cli(port, "set", "a", "b", password=password) == "OK"
        # It is the process that gets the signals, and its arguments say nothing.
        arguments = pathlib.Path(f"/proc/{server.pid}/cmdline")
        if arguments.exists():
            assert b"redis-server" in arguments.read_bytes() and password.encode() not in arguments.read_bytes()
        # The probes, as they are but for the port.
        for kind in ("startup", "readiness"):
            probe = [part.replace("redis-cli", f"redis-cli -p {port}") for part in redis[f"{kind}Probe"]["exec"]["command"]]
            assert subprocess.run(probe, env=env).returncode == 0
            assert subprocess.run(probe, env=env | {"REDISCLI_AUTH": "wrong"}, stderr=subprocess.DEVNULL).returncode != 0
    finally:
        server.terminate()
        server.wait(10)
    assert list(data.glob("appendonlydir/*")) or (data / "appendonly.aof").exists()
