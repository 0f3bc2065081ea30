module github.com/hallmark-dev/hallmark/tools/notation

go 1.26.0

require github.com/notaryproject/notation v1.3.2
