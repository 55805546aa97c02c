// Objects to output: the pipeline as a function, and `waggle plan` as a program.
#include "userspace/cli/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "k8s-watch/manifest_source.h"
#include "maps/render.h"
#include "tests/unit/cli/run.h"

namespace waggle::cli {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kManifests = TestData("manifests.yaml");

TEST(MakePlan, GivesWhatTheCommandPrints) {
  const auto snapshot = k8s::ReadManifests(kManifests);
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const Plan plan = MakePlan(snapshot->changes, "n1");
  ExpectGolden(maps::RenderServicesJson(plan.services), "plan.json");
  ExpectGolden(maps::RenderServicesTable(plan.services, /*wide=*/false), "plan.txt");
  ExpectGolden(maps::RenderServicesTable(plan.services, /*wide=*/true), "plan-wide.txt");
  ExpectGolden(maps::RenderBackendsJson(plan.services), "backends.json");
  ExpectGolden(maps::RenderBackendsTable(plan.services, /*wide=*/true), "backends-wide.txt");
  std::string problems;
  for (const Problem& problem : plan.problems)
    problems += problem.ToString() + "\n";
  ExpectGolden(problems, "plan-problems.txt");
}

// The winner of a contested frontend, and all else, is the same in any order.
TEST(MakePlan, OrderOfObjectsDecidesNothing) {
  auto snapshot = k8s::ReadManifests(kManifests);
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const Plan first = MakePlan(snapshot->changes, "n1");
  std::mt19937 random(3);
  for (int i = 0; i < 50; ++i) {
    std::shuffle(snapshot->changes.begin(), snapshot->changes.end(), random);
    const Plan plan = MakePlan(snapshot->changes, "n1");
    EXPECT_EQ(plan.services, first.services);
    EXPECT_EQ(plan.problems, first.problems);
  }
}

TEST(MakePlan, IsThatOfTheNode) {
  const auto snapshot = k8s::ReadManifests(kManifests);
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const std::string elsewhere =
      maps::RenderServicesJson(MakePlan(snapshot->changes, "n2").services);
  EXPECT_THAT(elsewhere,
              HasSubstr(R"("policy":"Local","fate":"forward","backends":["10.244.2.60:4317"])"));
}

TEST(MakePlan, OfNothingIsNothing) {
  const Plan plan = MakePlan({}, "n1");
  EXPECT_THAT(plan.services, IsEmpty());
  EXPECT_THAT(plan.problems, IsEmpty());
}

TEST(PlanCommand, PrintsEachFormatAndEachProblem) {
  const std::vector<std::string> plan = {"plan", "--manifests", kManifests, "--node", "n1"};
  const auto with = [&plan](std::vector<std::string> more) {
    more.insert(more.begin(), plan.begin(), plan.end());
    return Waggle(more);
  };
  for (const auto& [format, golden] : std::vector<std::pair<std::string, std::string>>{
           {"table", "plan.txt"}, {"wide", "plan-wide.txt"}, {"json", "plan.json"}}) {
    const RunResult result = with({"-o", format});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, FileText(TestData(golden)));
    std::istringstream problems(FileText(TestData("plan-problems.txt")));
    std::string expected;
    for (std::string line; std::getline(problems, line);)
      expected += "waggle: " + line + "\n";
    EXPECT_EQ(result.err, expected);
  }
  EXPECT_EQ(with({}).out, FileText(TestData("plan.txt"))) << "table is the default";
  EXPECT_EQ(with({"--strict"}).exit_code, 1);
}

TEST(PlanCommand, ShowsOneNamespaceAndItsProblems) {
  const RunResult result = Waggle({"plan", "--manifests", kManifests, "--node", "n1", "-n",
                                   "kube-system", "-o", "json", "--strict"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("kube-system/kube-dns: spec.sessionAffinity"));
  EXPECT_THAT(result.err, testing::Not(HasSubstr("Service default/")));
  const auto rows = nlohmann::json::parse(result.out);
  EXPECT_THAT(rows, SizeIs(4));
  for (const auto& row : rows)
    EXPECT_EQ(row["namespace"], "kube-system");

  const RunResult clean = Waggle({"plan", "--manifests", kManifests, "--node", "n1", "-n", "nobody",
                                  "--strict", "-o", "json"});
  EXPECT_EQ(clean.exit_code, 0) << "no problem there";
  EXPECT_EQ(clean.out, "[]\n");
}

TEST(PlanCommand, ReadsStandardInput) {
  const RunResult result =
      Waggle({"plan", "--manifests", "-", "--node", "n1", "-o", "json"}, FileText(kManifests));
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, FileText(TestData("plan.json")));
}

TEST(PlanCommand, WhatCannotBeReadIsAnErrorAndTheRestIsShown) {
  const RunResult result =
      Waggle({"plan", "--manifests", "-", "--node", "n1"},
             "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\n"
             "spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n---\n{not yaml: [\n");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("waggle: "));
  EXPECT_THAT(result.err, HasSubstr("unreadable"));

  const RunResult missing = Waggle({"plan", "--manifests", "/nonexistent/x", "--node", "n1"});
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_EQ(missing.out, "");
  EXPECT_THAT(missing.err, HasSubstr("/nonexistent/x"));
}

TEST(PlanCommand, AFullDiskIsNoEmptyList) {
  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  const RunResult result = Waggle({"plan", "--manifests", kManifests, "--node", "n1"}, "", full);
  close(full);
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot write to the standard output"));
}

}  // namespace
}  // namespace waggle::cli
