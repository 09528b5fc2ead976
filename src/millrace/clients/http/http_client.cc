// SPDX-License-Identifier: Apache-2.0
#include "millrace/clients/http/http_client.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include <curl/curl.h>
#include <fmt/format.h>

#include "millrace/common/check.h"

namespace millrace::http {

namespace {

constexpr size_t kHeaderBytesMax = size_t{64} << 10;
// libcurl copies the body through a buffer of this size: larger means fewer system calls.
constexpr long kUploadBufferBytes = 512 << 10;
// How long one wait lasts at most; a stop request wakes it at once.
constexpr int kPollMillis = 500;

void InitLibrary() {
  static const CURLcode kResult = curl_global_init(CURL_GLOBAL_DEFAULT);
  MR_CHECK(kResult == CURLE_OK);
}

struct UrlCloser {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
struct EasyCloser {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct MultiCloser {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct ListCloser {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

std::string UrlPart(CURLU* url, CURLUPart part, unsigned flags) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) {
    return {};
  }
  std::string copy(text);
  curl_free(text);
  return copy;
}

// The list with `line` appended. Lines are copied.
void AppendHeader(std::unique_ptr<curl_slist, ListCloser>& list, const std::string& line) {
  curl_slist* grown = curl_slist_append(list.get(), line.c_str());
  MR_CHECK(grown != nullptr);
  static_cast<void>(list.release());  // `grown` has it
  list.reset(grown);
}

}  // namespace

std::string HttpUrl::ToString() const {
  const bool is_ipv6 = host.find(':') != std::string::npos && host.front() != '[';
  return fmt::format("{}://{}:{}", scheme, is_ipv6 ? "[" + host + "]" : host, port);
}

Result<HttpUrl> ParseHttpUrl(const std::string& url) {
  InitLibrary();
  std::unique_ptr<CURLU, UrlCloser> parsed(curl_url());
  const CURLUcode result = curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0);
  if (result != CURLUE_OK) {
    return InvalidArgument(
        fmt::format("the URL cannot be read: {}; write http://user:password@host:8123",
                    curl_url_strerror(result)));
  }
  HttpUrl parts;
  parts.scheme = UrlPart(parsed.get(), CURLUPART_SCHEME, 0);
  parts.host = UrlPart(parsed.get(), CURLUPART_HOST, 0);
  parts.port = UrlPart(parsed.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  parts.user = UrlPart(parsed.get(), CURLUPART_USER, CURLU_URLDECODE);
  parts.password = UrlPart(parsed.get(), CURLUPART_PASSWORD, CURLU_URLDECODE);
  parts.path = UrlPart(parsed.get(), CURLUPART_PATH, 0);
  parts.query = UrlPart(parsed.get(), CURLUPART_QUERY, 0);
  if (parts.scheme != "http" && parts.scheme != "https") {
    return InvalidArgument("the URL must begin with http:// or https://");
  }
  if (parts.host.empty()) {
    return InvalidArgument("the URL names no host");
  }
  return parts;
}

std::string_view HttpResponse::Header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

class HttpClient::Impl {
 public:
  explicit Impl(HttpOptions options)
      : options_(std::move(options)), easy_(curl_easy_init()), multi_(curl_multi_init()) {
    MR_CHECK(easy_ != nullptr && multi_ != nullptr);
  }

  Result<HttpResponse> Post(const HttpRequest& request, std::stop_token stop) {
    if (stop.stop_requested()) {
      return CancelledBefore();
    }
    std::unique_ptr<curl_slist, ListCloser> headers = MakeHeaders(request);
    const std::string url = MakeUrl(request);
    body_ = request.body;
    Rewind();
    response_ = HttpResponse();
    header_bytes_ = 0;
    is_too_long_ = false;
    error_[0] = '\0';
    Configure(url, headers.get(),
              request.timeout.count() != 0 ? request.timeout : options_.request_timeout);

    MR_CHECK(curl_multi_add_handle(multi_.get(), easy_.get()) == CURLM_OK);
    const Result<CURLcode> done = Run(stop);
    // Dropping a transfer that is under way closes its connection.
    curl_multi_remove_handle(multi_.get(), easy_.get());
    if (!done.ok()) {
      return done.status();
    }
    if (*done != CURLE_OK) {
      return ErrorOf(*done);
    }
    long status = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
    response_.status = static_cast<int>(status);
    return std::move(response_);
  }

 private:
  std::unique_ptr<curl_slist, ListCloser> MakeHeaders(const HttpRequest& request) {
    std::unique_ptr<curl_slist, ListCloser> headers;
    // No round trip before a large body, and no type that the server would have to know.
    AppendHeader(headers, "Expect:");
    AppendHeader(headers, "Content-Type: application/octet-stream");
    for (const auto& [name, value] : request.headers) {
      AppendHeader(headers, fmt::format("{}: {}", name, value));
    }
    return headers;
  }

  std::string MakeUrl(const HttpRequest& request) {
    std::string url = options_.url.ToString() + options_.url.path;
    char separator = '?';
    if (!options_.url.query.empty()) {
      url += separator + options_.url.query;
      separator = '&';
    }
    for (const auto& [name, value] : request.query) {
      char* encoded = curl_easy_escape(easy_.get(), value.data(), static_cast<int>(value.size()));
      MR_CHECK(encoded != nullptr);
      url += separator;
      url += name;
      url += '=';
      url += encoded;
      curl_free(encoded);
      separator = '&';
    }
    return url;
  }

  void Configure(const std::string& url, curl_slist* headers, std::chrono::milliseconds timeout) {
    CURL* easy = easy_.get();
    size_t bytes = 0;
    for (const std::string_view part : body_) {
      bytes += part.size();
    }
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, kUploadBufferBytes);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(options_.connect_timeout.count()));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    if (!options_.url.user.empty() || !options_.url.password.empty()) {
      curl_easy_setopt(easy, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
      curl_easy_setopt(easy, CURLOPT_USERNAME, options_.url.user.c_str());
      curl_easy_setopt(easy, CURLOPT_PASSWORD, options_.url.password.c_str());
    }
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(bytes));
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, &Impl::OnRead);
    curl_easy_setopt(easy, CURLOPT_READDATA, this);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, &Impl::OnSeek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, this);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Impl::OnWrite);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Impl::OnHeader);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, this);
    SetIfGiven(CURLOPT_CAINFO, options_.ca_file);
    SetIfGiven(CURLOPT_SSLCERT, options_.cert_file);
    SetIfGiven(CURLOPT_SSLKEY, options_.key_file);
  }

  void SetIfGiven(CURLoption option, const std::string& path) {
    if (!path.empty()) {
      curl_easy_setopt(easy_.get(), option, path.c_str());
    }
  }

  // Until the transfer ends, or `stop`.
  Result<CURLcode> Run(std::stop_token stop) {
    CURLM* multi = multi_.get();
    std::stop_callback wake(stop, [multi] { curl_multi_wakeup(multi); });
    while (true) {
      int running = 0;
      CURLMcode code = curl_multi_perform(multi, &running);
      if (code == CURLM_OK && running == 0) {
        int left = 0;
        while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
          if (message->msg == CURLMSG_DONE) {
            return message->data.result;
          }
        }
        return Internal("libcurl ended a transfer without a result");
      }
      if (stop.stop_requested()) {
        return Cancelled(fmt::format("request to {}: stopped", options_.url.ToString()));
      }
      if (code == CURLM_OK) {
        code = curl_multi_poll(multi, nullptr, 0, kPollMillis, nullptr);
      }
      if (code != CURLM_OK) {
        return Internal(fmt::format("libcurl: {}", curl_multi_strerror(code)));
      }
    }
  }

  Status CancelledBefore() const {
    return Cancelled(fmt::format("request to {}: stopped", options_.url.ToString()));
  }

  Status ErrorOf(CURLcode code) const {
    const std::string where = options_.url.ToString();
    const char* detail = error_[0] != '\0' ? error_ : curl_easy_strerror(code);
    const std::string text = fmt::format("request to {}: {}", where, detail);
    if (is_too_long_) {
      return ResourceExhausted(fmt::format("request to {}: the answer is longer than {} bytes",
                                           where, options_.response_bytes_max));
    }
    switch (code) {
      case CURLE_OPERATION_TIMEDOUT:
        return TimedOut(text);
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_CACERT_BADFILE:
      case CURLE_SSL_CERTPROBLEM:
        return FailedPrecondition(text + "; check tls.ca_file and the server's certificate");
      default:
        return Unavailable(text);
    }
  }

  void Rewind() {
    part_ = 0;
    at_ = 0;
  }

  static size_t OnRead(char* to, size_t size, size_t count, void* self) {
    auto& impl = *static_cast<Impl*>(self);
    const size_t room = size * count;
    size_t written = 0;
    while (written < room && impl.part_ < impl.body_.size()) {
      const std::string_view left = impl.body_[impl.part_].substr(impl.at_);
      const size_t n = std::min(room - written, left.size());
      std::memcpy(to + written, left.data(), n);
      written += n;
      impl.at_ += n;
      if (impl.at_ == impl.body_[impl.part_].size()) {
        ++impl.part_;
        impl.at_ = 0;
      }
    }
    return written;
  }

  // libcurl goes back to the start when it sends a request again over a fresh connection.
  static int OnSeek(void* self, curl_off_t offset, int origin) {
    if (offset != 0 || origin != SEEK_SET) {
      return CURL_SEEKFUNC_FAIL;
    }
    static_cast<Impl*>(self)->Rewind();
    return CURL_SEEKFUNC_OK;
  }

  static size_t OnWrite(char* from, size_t size, size_t count, void* self) {
    auto& impl = *static_cast<Impl*>(self);
    const size_t n = size * count;
    if (impl.response_.body.size() + n > impl.options_.response_bytes_max) {
      impl.is_too_long_ = true;
      return 0;
    }
    impl.response_.body.append(from, n);
    return n;
  }

  static size_t OnHeader(char* from, size_t size, size_t count, void* self) {
    auto& impl = *static_cast<Impl*>(self);
    const std::string_view line(from, size * count);
    impl.header_bytes_ += line.size();
    if (impl.header_bytes_ > kHeaderBytesMax) {
      impl.is_too_long_ = true;
      return 0;
    }
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos) {
      std::string name(line.substr(0, colon));
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      std::string_view value = line.substr(colon + 1);
      const size_t first = value.find_first_not_of(" \t\r\n");
      const size_t last = value.find_last_not_of(" \t\r\n");
      value = first == std::string_view::npos ? "" : value.substr(first, last - first + 1);
      impl.response_.headers[std::move(name)] = value;
    }
    return line.size();
  }

  // Constant after construction.
  HttpOptions options_;

  // Used by one thread at a time.
  std::unique_ptr<CURL, EasyCloser> easy_;
  std::unique_ptr<CURLM, MultiCloser> multi_;  // keeps the connection
  std::vector<std::string_view> body_;
  size_t part_ = 0;  // the next byte to send is body_[part_][at_]
  size_t at_ = 0;
  HttpResponse response_;
  size_t header_bytes_ = 0;
  bool is_too_long_ = false;
  char error_[CURL_ERROR_SIZE] = {};
};

HttpClient::HttpClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpClient::~HttpClient() = default;

Result<std::unique_ptr<HttpClient>> HttpClient::Make(HttpOptions options) {
  InitLibrary();
  if (options.url.host.empty()) {
    return InvalidArgument("the URL names no host");
  }
  auto impl = std::make_unique<Impl>(std::move(options));
  return std::unique_ptr<HttpClient>(new HttpClient(std::move(impl)));
}

Result<HttpResponse> HttpClient::Post(const HttpRequest& request, std::stop_token stop) {
  return impl_->Post(request, std::move(stop));
}

}  // namespace millrace::http
