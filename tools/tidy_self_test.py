#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of check_layers.py and tidy_test.py on small trees."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import check_layers  # noqa: E402
import tidy_test  # noqa: E402

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"


class TreeTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


class LayersTest(TreeTest):
    HEADERS = ("common/status.h", "model/lsn.h", "telemetry/log.h", "config/section.h",
               "clients/kafka/producer.h", "clients/http/http.h", "sources/source.h",
               "sources/postgres/slot.h", "storage/store.h", "storage/rocksdb/store.h",
               "sinks/sink.h", "sinks/kafka/kafka_sink.h", "sinks/redis/redis_sink.h",
               "sinks/testing/sink_conformance.h", "pipeline/pipeline.h",
               "pipeline/status_snapshot.h", "components/registry.h", "admin/admin_server.h",
               "cli/cli.h")

    def setUp(self):
        super().setUp()
        for header in self.HEADERS:
            self.write(f"src/millrace/{header}", "#pragma once\n")

    def findings(self, name, *headers):
        """What is found in one file that includes `headers`."""
        lines = [f'#include "{h}"' if h.startswith("millrace/") else f"#include <{h}>"
                 for h in headers]
        self.write(f"src/millrace/{name}", "\n".join(lines) + "\n")
        found = check_layers.check_tree(self.root)
        (self.root / "src/millrace" / name).unlink()
        return found

    def test_an_orderly_tree_has_no_findings(self):
        for name, headers in {
            "common/a.cc": ["vector", "millrace/common/status.h", "fmt/format.h"],
            "telemetry/a.cc": ["spdlog/spdlog.h", "prometheus/registry.h", "nlohmann/json.hpp"],
            "clients/kafka/a.h": ["librdkafka/rdkafka.h", "millrace/config/section.h"],
            "sinks/kafka/a.cc": ["millrace/sinks/sink.h", "millrace/clients/kafka/producer.h"],
            "sinks/kafka/a_test.cc": ["millrace/sinks/testing/sink_conformance.h"],
            "sinks/testing/a.cc": ["millrace/sinks/sink.h"],
            "pipeline/a.cc": ["millrace/sinks/sink.h", "millrace/storage/store.h"],
            "components/a.cc": ["millrace/sinks/redis/redis_sink.h", "millrace/pipeline/pipeline.h"],
            "admin/a.cc": ["httplib.h", "millrace/pipeline/status_snapshot.h"],
            "cli/a.cc": ["CLI/CLI.hpp", "millrace/components/registry.h",
                         "millrace/admin/admin_server.h"],
            "main.cc": ["millrace/cli/cli.h", "millrace/pipeline/pipeline.h"],
            "pipeline/a_test.cc": ["millrace/storage/rocksdb/store.h"],
            "model/a.h": ["nlohmann/json_fwd.hpp"],
        }.items():
            self.assertEqual(self.findings(name, *headers), [], name)

    def test_each_wall_holds(self):
        for header, home in {
            "rocksdb/db.h": "storage/rocksdb", "hiredis/hiredis.h": "clients/redis",
            "librdkafka/rdkafka.h": "clients/kafka", "libpq-fe.h": "clients/postgres",
            "postgresql/libpq-fe.h": "clients/postgres", "duckdb.h": "sql/duckdb",
            "yaml-cpp/yaml.h": "config", "spdlog/spdlog.h": "telemetry",
            "prometheus/counter.h": "telemetry", "curl/curl.h": "clients/http",
            "httplib.h": "admin", "CLI/CLI.hpp": "cli",
        }.items():
            self.assertEqual(self.findings(f"{home}/a.cc", header), [], header)
            found = self.findings("pipeline/a.cc", "vector", header)
            self.assertEqual(len(found), 1, header)
            self.assertRegex(found[0], rf"^src/millrace/pipeline/a\.cc:2: <{header}>: .* may be "
                                       rf"included in {home} only$")

    def test_json_stays_out_of_headers(self):
        self.assertIn("in .cc files only", self.findings("admin/a.h", "nlohmann/json.hpp")[0])

    def test_arrows_point_down(self):
        for name, header, sentence in [
            ("common/a.h", "millrace/model/lsn.h", "common may not include model"),
            ("model/a.h", "millrace/telemetry/log.h", "dependencies point down"),
            ("clients/kafka/a.h", "millrace/sinks/sink.h", "dependencies point down"),
            ("clients/kafka/a.h", "millrace/clients/http/http.h", "clients/kafka may not include"),
            ("sinks/a.h", "millrace/sinks/redis/redis_sink.h", "only components names a concrete"),
            ("sinks/a.h", "millrace/storage/store.h", "sinks may not include storage"),
            ("sinks/kafka/a.cc", "millrace/sinks/redis/redis_sink.h", "its sibling sinks/redis"),
            ("sinks/kafka/a.cc", "millrace/sources/source.h", "sinks/kafka may not include sources"),
            ("sinks/kafka/a.cc", "millrace/pipeline/pipeline.h", "dependencies point down"),
            ("pipeline/a.cc", "millrace/storage/rocksdb/store.h", "only components names a concrete"),
            ("pipeline/a.cc", "millrace/clients/http/http.h", "pipeline may not include clients/http"),
            ("pipeline/a.cc", "millrace/components/registry.h", "which stands above it"),
            ("components/a.cc", "millrace/admin/admin_server.h", "which stands above it"),
            ("admin/a.cc", "millrace/pipeline/pipeline.h", "only as pipeline/status_snapshot.h"),
            ("admin/a.cc", "millrace/components/registry.h", "which stands above it"),
            ("pipeline/a.cc", "millrace/sinks/testing/sink_conformance.h", "never includes test"),
            ("pipeline/a.cc", "millrace/sinks/no_such.h", "there is no such file"),
        ]:
            found = self.findings(name, header)
            self.assertEqual(len(found), 1, (name, header))
            self.assertTrue(found[0].startswith(f"src/millrace/{name}:1: "), found[0])
            self.assertIn(sentence, found[0])


class TextTest(TreeTest):
    def findings(self, name, text):
        self.write(name, text)
        found = [line for line in tidy_test.check_tree(self.root) if line.startswith(name + ":")]
        (self.root / name).unlink()
        return found

    def expect(self, name, text, *rules):
        found = self.findings(name, text)
        self.assertEqual([line.rsplit("[", 1)[1][:-1] for line in found], list(rules), found)

    def setUp(self):
        super().setUp()
        self.write("src/millrace/a/CMakeLists.txt", "millrace_library(NAME a SRCS a.cc)\n"
                                                    "millrace_test(NAME a SRCS a_test.cc)\n")
        self.write("src/millrace/a/README.md", "# a\n")

    def test_an_orderly_tree_has_no_findings(self):
        self.write("src/millrace/a/a.cc", SPDX + "int f();\n")
        self.write("src/millrace/a/a.h", SPDX + "#pragma once\n")
        self.write("src/millrace/a/a_test.cc", SPDX + "// TODO(#12): more cases\n")
        self.write("Makefile", "help:\n\t@echo\n")
        self.assertEqual(tidy_test.check_tree(self.root), [])

    def test_findings_name_file_and_line(self):
        self.assertEqual(self.findings("src/millrace/a/a.cc", SPDX + "int f();\n\tint g();\n"),
                         ["src/millrace/a/a.cc:3: a tab; indent with spaces [tab]"])

    def test_layout(self):
        name = "src/millrace/a/a.cc"
        self.expect(name, SPDX + "int f(); \n", "blank")
        self.expect(name, SPDX + "int f();", "blank")
        self.expect(name, SPDX + "int f();\r\n", "blank")
        self.expect(name, SPDX + "// caf\u00e9\n", "ascii")
        self.expect(name, SPDX + "//" + "x" * 199 + "\n")
        self.expect("tools/a.py", "#" + "x" * 119 + "\n")
        self.expect("tools/a.py", "#" + "x" * 120 + "\n", "columns")
        self.expect("tools/a.sh", "#" + "x" * 120 + "\n")
        self.expect("docs/a.md", "caf\u00e9 " + "x" * 200 + "\n")
        self.expect(name, "int f();\n", "spdx")
        self.expect("src/millrace/a/a.h", SPDX, "pragma")
        self.expect(name, SPDX + "\n" * 700, "length")
        self.expect("src/millrace/a/a_test.cc", SPDX + "\n" * 700)
        self.expect("src/millrace/a/a_test.cc", SPDX + "\n" * 1000, "length")

    def test_words(self):
        name = "src/millrace/a/a.cc"
        self.expect(name, SPDX + "// TODO: later\n", "todo")
        for text in ("// FIXME", "// good enough for now", "// Not implemented", "// /root/x",
                     '"/home/me/x"', "// blazingly fast"):
            self.expect(name, SPDX + text + "\n", "word")
        for text in ("// ./work/x", "// a/home/b/c", "// $HOME/work/x"):
            self.expect(name, SPDX + text + "\n")

    def test_output_and_catch_all(self):
        for text in ('std::cout << "x";', 'printf("x");', 'fprintf(stdout, "x");', 'puts("x");',
                     'fmt::print("x");'):
            self.expect("src/millrace/a/a.cc", SPDX + text + "\n", "print")
        for text in ('snprintf(b, 1, "x");', 'fprintf(stderr, "x");', 'fmt::print(stderr, "x");'):
            self.expect("src/millrace/a/a.cc", SPDX + text + "\n")
        self.expect("src/millrace/a/a.cc", SPDX + "try {} catch (...) {}\n", "catch")
        self.expect("src/millrace/a/a.cc",
                    SPDX + "catch (...) {  // tidy-ok: catch, the thread's entry\n")
        self.write("src/millrace/cli/CMakeLists.txt", "a.cc\n")
        self.expect("src/millrace/cli/a.cc", SPDX + 'std::cout << "x";\n')

    def test_tests_do_not_sleep(self):
        for text in ("std::this_thread::sleep_for(x);", "usleep(5);", "sleep(1);"):
            self.expect("src/millrace/a/a_test.cc", SPDX + text + "\n", "sleep")
            self.expect("src/millrace/a/a.cc", SPDX + text + "\n")
        self.expect("tests/chaos/a.py", "time.sleep(1)\n")

    def test_folders(self):
        self.expect("src/millrace/a/b.cc", SPDX, "cmake")
        self.expect("src/millrace/a/b_test.cc", SPDX, "cmake")
        self.expect("src/millrace/b/CMakeLists.txt", "x\n", "readme")
        self.expect("src/millrace/utils/a.h", SPDX + "#pragma once\n", "folder")

    def test_format(self):
        self.write("a.cc", "int f() { return 1; }\n")
        self.assertEqual(tidy_test.check_format(self.root), [])
        self.write("b.cc", "int f( ) { return 1; }\n")
        self.assertEqual(tidy_test.check_format(self.root),
                         ["b.cc:1: clang-format would change this; run `make format`"])


if __name__ == "__main__":
    unittest.main()
