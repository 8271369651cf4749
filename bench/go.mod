module github.com/myspinbot/myspinbot/bench

go 1.26.0

require github.com/myspinbot/myspinbot v0.0.0

require golang.org/x/image v0.47.0 // indirect

replace github.com/myspinbot/myspinbot => ../
