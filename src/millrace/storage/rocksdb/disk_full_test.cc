// SPDX-License-Identifier: Apache-2.0
//
// A disk that is full from one moment on: what fails, how it is told, and what is there afterwards.

#include <atomic>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include "millrace/storage/rocksdb/testing/store_fixture.h"

namespace millrace::storage {
namespace {

using ::testing::HasSubstr;

class FillingFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FillingFile(std::unique_ptr<rocksdb::FSWritableFile> file, const std::atomic<bool>& full)
      : FSWritableFileOwnerWrapper(std::move(file)), full_(full) {}
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
    return full_ ? Full(data, options, debug) : target()->Append(data, options, debug);
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& info,
                           rocksdb::IODebugContext* debug) override {
    return full_ ? Full(data, options, debug) : target()->Append(data, options, info, debug);
  }

 private:
  // As much as half of it still fits.
  rocksdb::IOStatus Full(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* debug) {
    target()
        ->Append(rocksdb::Slice(data.data(), data.size() / 2), options, debug)
        .PermitUncheckedError();
    return rocksdb::IOStatus::NoSpace("the test says so");
  }

  const std::atomic<bool>& full_;
};

class FillingFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  FillingFileSystem(const std::atomic<bool>& full, const std::atomic<uint64_t>& free)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), full_(full), free_(free) {}
  const char* Name() const override { return "FillingFileSystem"; }
  rocksdb::IOStatus NewWritableFile(const std::string& path, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSWritableFile> opened;
    rocksdb::IOStatus status = target()->NewWritableFile(path, options, &opened, debug);
    if (status.ok()) {
      *file = std::make_unique<FillingFile>(std::move(opened), full_);
    }
    return status;
  }
  rocksdb::IOStatus GetFreeSpace(const std::string& /*path*/, const rocksdb::IOOptions& /*options*/,
                                 uint64_t* free, rocksdb::IODebugContext* /*debug*/) override {
    *free = free_;
    return rocksdb::IOStatus::OK();
  }

 private:
  const std::atomic<bool>& full_;
  const std::atomic<uint64_t>& free_;
};

class DiskFullTest : public testing::StoreFixture {
 protected:
  DiskFullTest()
      : env_(rocksdb::NewCompositeEnv(std::make_shared<FillingFileSystem>(full_, free_))) {
    options_.env = env_.get();
  }
  ~DiskFullTest() override { store_.reset(); }

  Status TryAppend() {
    auto batch = store_->NewBatch();
    const OutputRecord record = testing::MakeRecord(stream_, store_->AppendEnd(), 10, 2);
    batch->AppendOutput(record);
    batch->SetPosition(record.position);
    return store_->Commit(std::move(batch));
  }

  std::atomic<bool> full_{false};
  std::atomic<uint64_t> free_{uint64_t{1} << 30};
  const std::unique_ptr<rocksdb::Env> env_;
};

TEST_F(DiskFullTest, TheCommitFailsWithTheRemedyAndSoDoesEveryLaterWrite) {
  Append(10, 1);
  full_ = true;
  const Status status = TryAppend();
  EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.ToString();
  EXPECT_THAT(status.message(), HasSubstr("the file system of data_dir " + dir_.path()));
  EXPECT_EQ(store_->AppendEnd(), Offset(10));
  // Space alone does not bring it back: the disk may hold what memory does not know.
  full_ = false;
  EXPECT_EQ(TryAppend().code(), Code::kResourceExhausted);
  EXPECT_EQ(store_->SaveDelivery("a", {}, false).code(), Code::kResourceExhausted);
  EXPECT_EQ(store_->TruncateOutput(Offset(10)).code(), Code::kResourceExhausted);
}

TEST_F(DiskFullTest, OpenedAgainItHoldsWhatWasCommittedAndGoesOn) {
  const OutputRecord before = Append(10, 1);
  full_ = true;
  EXPECT_FALSE(TryAppend().ok());
  store_.reset();
  full_ = false;
  Open();
  EXPECT_EQ(store_->AppendEnd(), Offset(10));
  ExpectRead(Offset(9), before);
  const OutputRecord after = Append(5, 2);
  Reopen();
  ExpectRead(Offset(14), after);
}

TEST_F(DiskFullTest, LargeValuesFromBeforeItAreThere) {
  const std::string before(size_t{6} << 20, 'a');
  Put("row", before);
  full_ = true;
  auto batch = store_->NewBatch();
  batch->PutState(table_, "row", std::string(before.size(), 'b'));
  const Status status = store_->Commit(std::move(batch));
  EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.ToString();
  store_.reset();
  full_ = false;
  Open();
  EXPECT_EQ(Rows(), std::vector<std::string>{"row=" + before});
  Put("row", "small");
  Reopen();
  EXPECT_EQ(Rows(), std::vector<std::string>{"row=small"});
}

TEST_F(DiskFullTest, OpeningOnAFullDiskSaysSo) {
  Append(10, 1);
  store_.reset();
  full_ = true;
  const Status status = OpenRocksDbStore(options_).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.ToString();
  full_ = false;
  Open();
  EXPECT_EQ(store_->AppendEnd(), Offset(10));
}

TEST_F(DiskFullTest, ADiskWithoutRoomForAnOpenIsNamed) {
  store_.reset();
  free_ = 1 << 20;
  const auto opened = OpenRocksDbStore(options_);
  EXPECT_EQ(opened.status().code(), Code::kResourceExhausted);
  EXPECT_THAT(opened.status().message(), HasSubstr("is full; free space on it"));
  free_ = 1 << 30;
  Reopen();
}

}  // namespace
}  // namespace millrace::storage
