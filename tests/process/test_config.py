"""Settings: their sources, which ones are refused, and the error texts."""

from __future__ import annotations

import dataclasses
import os

import pytest

from storekeep.server.config import InvalidSettings, Settings, load_settings

STRONG = "9b1c40f7d2e35a86e07f4c1d93b2a658"


def problems(**variables: str) -> list[str]:
    with pytest.raises(InvalidSettings) as refused:
        load_settings({f"STOREKEEP_{name}": value for name, value in variables.items()})
    return refused.value.problems


def test_defaults_can_be_used():
    settings = load_settings({}).settings
    assert (settings.listen, settings.read_threads) == ("127.0.0.1:50051", 4)
    assert settings.database == "sqlite:///var/storekeep.db"


def test_auto_is_a_worker_for_each_core_that_may_be_used():
    settings = load_settings({"STOREKEEP_WORKERS": "8"}, arguments={"workers": "auto"}).settings
    assert settings.workers == len(os.sched_getaffinity(0))


def test_settings_are_frozen():
    with pytest.raises((dataclasses.FrozenInstanceError, ValueError)):
        load_settings({}).settings.read_threads = 5


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_is_explained(name):
    assert Settings.model_fields[name].description


def test_environment_comes_before_file(tmp_path):
    file = tmp_path / "storekeep.toml"
    file.write_text('read_threads = 2\ncalls_max = 8\nlog_level = "DEBUG"\n')
    loaded = load_settings({"STOREKEEP_CONFIG_FILE": str(file), "STOREKEEP_READ_THREADS": "3"})
    assert (loaded.settings.read_threads, loaded.settings.calls_max) == (3, 8)
    assert loaded.origins["read_threads"] == "environment"
    assert loaded.origins["calls_max"] == str(file)
    assert loaded.origins["write_queue_max"] == "default"


def test_file_of_variables_is_read(tmp_path):
    file = tmp_path / "storekeep.env"
    file.write_text("# limits\nSTOREKEEP_CALLS_MAX=7\nSTOREKEEP_TOKEN_ISSUER='shop'\n")
    settings = load_settings({"STOREKEEP_CONFIG_FILE": str(file)}).settings
    assert (settings.calls_max, settings.token_issuer) == (7, "shop")


def test_variables_of_the_client_are_left_alone():
    load_settings({"STOREKEEP_ADDRESS": "elsewhere:1", "STOREKEEP_API_KEY": "sk_1", "HOME": "/"})


def test_empty_variable_is_the_default():
    assert load_settings({"STOREKEEP_READ_THREADS": ""}).settings.read_threads == 4


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LISTN": "127.0.0.1:1"}, "STOREKEEP_LISTN: no such setting; did you mean STOREKEEP_LISTEN?"),
        ({"NOTHING": "1"}, "STOREKEEP_NOTHING: no such setting"),
        ({"READ_THREADS": "many"}, "STOREKEEP_READ_THREADS: must be a whole number, not 'many'"),
        ({"READ_THREADS": "0"}, "STOREKEEP_READ_THREADS: must be at least 1, not '0'"),
        ({"LOG_LEVEL": "LOUD"}, "STOREKEEP_LOG_LEVEL: must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR', not 'LOUD'"),
        ({"DATABASE_URL": "mysql://u:secret@host/db"}, "STOREKEEP_DATABASE_URL: mysql is not served"),
        ({"DATABASE_URL": "/var/storekeep.db"}, "STOREKEEP_DATABASE_URL: a URL without :// is not served"),
        ({"DATABASE_URL": "postgresql://u@host/db?ssl=on"}, "not a PostgreSQL URL: invalid URI query parameter"),
        ({"DATABASE_URL": "postgresql://u:sec%ret@host/db"}, "an unencoded character in the password"),
        ({"DATABASE_POOL_SIZE": "0"}, "STOREKEEP_DATABASE_POOL_SIZE: must be at least 1"),
        ({"DATABASE_URL": "sqlite:///"}, "STOREKEEP_DATABASE_URL"),
        ({"LISTEN": "50051"}, "neither host:port nor unix:/path"),
        ({"LISTEN": "127.0.0.1:70000"}, "neither host:port nor unix:/path"),
        ({"LISTEN": "0.0.0.0:50051"}, "STOREKEEP_INSECURE_LISTEN=yes-plaintext"),
        ({"LISTEN": "[::]:50051"}, "STOREKEEP_INSECURE_LISTEN=yes-plaintext"),
        ({"INSECURE_LISTEN": "true"}, "STOREKEEP_INSECURE_LISTEN: must be empty or 'yes-plaintext', not 'true'"),
        ({"SECRET": "short"}, "STOREKEEP_SECRET: too weak"),
        ({"SECRET": "a" * 64}, "STOREKEEP_SECRET: too weak"),
        ({"TLS_CERTIFICATE_FILE": "a.pem"}, "go together"),
        ({"TLS_CLIENT_CA_FILE": "a.pem"}, "needs STOREKEEP_TLS_CERTIFICATE_FILE"),
        ({"WORKERS": "0"}, "STOREKEEP_WORKERS"),
        ({"WORKERS": "2", "LISTEN": "unix:/tmp/s"}, "several workers cannot share unix:/tmp/s"),
        ({"WORKERS": "many"}, "STOREKEEP_WORKERS: must be a whole number or auto, not 'many'"),
        ({"DRAIN_S": "soon"}, "STOREKEEP_DRAIN_S: must be a number, not 'soon'"),
        ({"DATABASE_POOLER": "perhaps"}, "STOREKEEP_DATABASE_POOLER: must be true or false, not 'perhaps'"),
        ({"WORKERS": "2", "PIN_CPU": "0"}, "STOREKEEP_PIN_CPU: only with one worker"),
        ({"METRICS_LISTEN": "9464"}, "STOREKEEP_METRICS_LISTEN: '9464' is not host:port"),
        ({"METRICS_LISTEN": "0.0.0.0:9464"}, "STOREKEEP_METRICS_INSECURE_LISTEN=yes-public"),
        ({"METRICS_LISTEN": "[::]:9464"}, "STOREKEEP_METRICS_INSECURE_LISTEN=yes-public"),
        ({"METRICS_LISTEN": "shop.example:9464"}, "STOREKEEP_METRICS_INSECURE_LISTEN=yes-public"),
        ({"METRICS_INSECURE_LISTEN": "yes"}, "STOREKEEP_METRICS_INSECURE_LISTEN"),
        ({"SECRET": "0123456789abcdef" * 4}, "STOREKEEP_SECRET: too weak"),
        ({"WEBHOOK_PORTS": "443,8443"}, "STOREKEEP_WEBHOOK_PORTS: separate the values by spaces, without commas"),
        ({"WEBHOOK_ALLOWED_NETWORKS": "10.0.0.0/8,::1"}, "_NETWORKS: separate the values by spaces, without commas"),
        ({"OIDC_ALLOWED_NETWORKS": "10.0.0.0/8,::1"}, "_NETWORKS: separate the values by spaces, without commas"),
        ({"OIDC_ROLES": "a=admin,b=operator"}, "STOREKEEP_OIDC_ROLES: separate the values by spaces, without commas"),
        ({"OTEL_SIGNALS": "traces,metrics"}, "STOREKEEP_OTEL_SIGNALS: must be 'traces' or 'metrics'"),
        ({"CONFIG_FILE": "/nowhere/at/all.toml"}, "there is no file /nowhere/at/all.toml"),
    ],
)
def test_wrong_setting_is_refused_in_a_line_that_names_it(variables, expected):
    (problem,) = problems(**variables)
    assert expected in problem
    assert "\n" not in problem


def test_wrong_argument_is_refused_by_its_own_name():
    with pytest.raises(InvalidSettings) as refused:
        load_settings({}, arguments={"workers": "x"})
    assert refused.value.problems == ["--workers: must be a whole number or auto, not 'x'"]


def test_no_problem_tells_a_secret():
    for url in (
        "mysql://u:pa55word@host/db",
        "postgresql://u:pa55/pa55word@host/db",
        "postgresql://h/?password=pa55word&a",
    ):
        text = " ".join(problems(SECRET="hunter2", DATABASE_URL=url))
        assert "hunter2" not in text
        assert "pa55" not in text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://shop:pa55word@db.example/shop", "postgresql://shop:***@db.example/shop"),
        ("postgresql://shop:pa55@word@db.example/shop", "postgresql://shop:***@db.example/shop"),
        ("postgresql:///shop?host=/run&password=pa55word&port=1", "postgresql:///shop?host=/run&password=***&port=1"),
        ("postgresql://shop@db.example/shop", "postgresql://shop@db.example/shop"),
        ("sqlite:////srv/shop.db", "sqlite:////srv/shop.db"),
    ],
)
def test_database_url_is_printed_without_its_password(url, expected):
    (line,) = (line for line in load_settings({"STOREKEEP_DATABASE_URL": url}).lines() if "DATABASE_URL" in line)
    assert line == f"STOREKEEP_DATABASE_URL={expected}  # environment"
    assert "pa55" not in repr(load_settings({"STOREKEEP_DATABASE_URL": url}).settings)


PRIMARY = "postgresql://shop:pa55word@a/shop"


def test_replicas_are_several_urls_and_printed_without_their_passwords(tmp_path):
    urls = ["postgresql://shop:pa55word@b/shop", "postgresql://shop:pa55word@c/shop"]
    loaded = load_settings({"STOREKEEP_DATABASE_URL": PRIMARY, "STOREKEEP_DATABASE_REPLICA_URLS": " ".join(urls)})
    assert loaded.settings.database_replica_urls == tuple(urls)
    assert "pa55" not in "\n".join(loaded.lines()) + repr(loaded.settings)
    file = tmp_path / "a.toml"
    file.write_text(f'database_url = "{PRIMARY}"\ndatabase_replica_urls = {urls}\n')
    assert load_settings({"STOREKEEP_CONFIG_FILE": str(file)}).settings.database_replica_urls == tuple(urls)


@pytest.mark.parametrize(
    ("primary", "replicas", "expected"),
    [
        ("", "postgresql://u:pa55word@b/shop", "SQLite has no replicas"),
        (PRIMARY, "postgresql://u:pa55word@b,c/shop", "URL 1: several hosts in one URL"),
        (
            PRIMARY,
            "postgresql://a/b,postgresql://c/d",
            "URL 1: a comma in the name of the database; separate URLs by sp",
        ),
        (PRIMARY, f"{PRIMARY} sqlite:////srv/shop.db", "URL 2: a replica is a PostgreSQL"),
        (PRIMARY, "postgresql://u:pa55 word@b/shop", "URL 2: a URL without :// is not served"),
    ],
)
def test_replicas_that_cannot_be_used_are_refused(primary, replicas, expected):
    text = " ".join(problems(DATABASE_URL=primary, DATABASE_REPLICA_URLS=replicas))
    assert expected in text
    assert "pa55" not in text


@pytest.mark.parametrize(
    "variables",
    [
        {"LISTEN": "0.0.0.0:50051", "INSECURE_LISTEN": "yes-plaintext"},
        {"LISTEN": "0.0.0.0:50051", "TLS_CERTIFICATE_FILE": "a.pem", "TLS_PRIVATE_KEY_FILE": "a.key"},
        {"LISTEN": "unix:/tmp/storekeep.sock"},
        {"LISTEN": "[::1]:0"},
        {"LISTEN": "localhost:50051"},
        {"SECRET": STRONG},
        {"METRICS_LISTEN": "0.0.0.0:9464", "METRICS_INSECURE_LISTEN": "yes-public"},
        {"METRICS_LISTEN": "[::1]:9464"},
    ],
)
def test_safe_settings_are_taken(variables):
    load_settings({f"STOREKEEP_{name}": value for name, value in variables.items()})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.toml", "read_thread = 1", "no such setting: read_thread"),
        ("a.toml", "read_threads = [", "a.toml"),
        ("a.env", "READ_THREADS=1", "does not begin with STOREKEEP_"),
        ("a.env", "STOREKEEP_READ_THREAD=1", "no such setting: read_thread; did you mean read_threads?"),
    ],
)
def test_wrong_file_is_refused(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    (problem,) = problems(CONFIG_FILE=str(tmp_path / name))
    assert expected in problem
